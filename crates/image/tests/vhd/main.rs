//! VHD and VHDX, with qemu-img as the judge both ways: it reads what we make, we read what it makes. A second reader,
//! dissect.hypervisor, must find the same bytes in both.
//!
//! Needs qemu-img (Debian: qemu-utils); `FAILBACK_QEMU_IMG` names another one to judge by. And a Python with
//! dissect.hypervisor, which `tools/test` makes; `FAILBACK_PYTHON` names another.

mod vhd;
mod vhdx;

use failback_image::Image;
use failback_testkit::Random;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Held while a process is started and while an image is let go: a child has its parent's files, locks included,
/// until it becomes another program.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes an image so that its locks are gone.
fn let_go(image: Arc<dyn Image>) {
    let _turn = turn();
    drop(image);
}

/// Runs qemu-img and gives back what it prints. Panics with its complaint where it fails.
fn qemu_img<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let program = std::env::var_os("FAILBACK_QEMU_IMG").unwrap_or_else(|| "qemu-img".into());
    let mut command = Command::new(&program);
    command.args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let _turn = turn();
        command.spawn()
    };
    let child = child.unwrap_or_else(|error| {
        panic!("{}: {error}; these tests need qemu-img (Debian: qemu-utils)", program.display())
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Converts a raw file into another format.
fn convert(raw: &Path, format: &str, options: &str, to: &Path) {
    let mut arguments: Vec<&OsStr> = ["convert", "-f", "raw", "-O", format].map(OsStr::new).to_vec();
    if !options.is_empty() {
        arguments.extend(["-o", options].map(OsStr::new));
    }
    qemu_img(arguments.into_iter().chain([raw.as_os_str(), to.as_os_str()]));
}

/// Fails where qemu-img finds other bytes or another length in the two.
fn compare(format: &str, image: &Path, raw: &Path) {
    assert_eq!(length_by_qemu(format, image), std::fs::metadata(raw).unwrap().len());
    let arguments = ["compare", "-f", format, "-F", "raw"].map(OsStr::new);
    qemu_img(arguments.into_iter().chain([image.as_os_str(), raw.as_os_str()]));
}

/// Fails where dissect.hypervisor finds other bytes or another length in the two.
fn second_reader_agrees(image: &Path, raw: &Path) {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = package.join("../../target/venv/bin/python");
    let python = std::env::var_os("FAILBACK_PYTHON").unwrap_or_else(|| made.into());
    let mut command = Command::new(&python);
    command
        .arg(package.join("tests/vhd/data/read_with_dissect.py"))
        .args([image, raw])
        .stderr(Stdio::piped());
    let child = {
        let _turn = turn();
        command.spawn()
    };
    let child = child.unwrap_or_else(|error| {
        panic!("a Python with dissect.hypervisor is needed; FAILBACK_PYTHON names it, tools/test makes one: {error}")
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "dissect.hypervisor on {}: {said}", image.display());
}

/// The length that qemu-img sees.
fn length_by_qemu(format: &str, image: &Path) -> u64 {
    let arguments = ["info", "--output=json", "-f", format].map(OsStr::new);
    let printed = qemu_img(arguments.into_iter().chain([image.as_os_str()]));
    // Indented once: the image's own. Newer versions list the files below it too, further in.
    let length = printed.lines().find_map(|line| line.strip_prefix("    \"virtual-size\": "));
    length.expect("qemu-img tells the length").trim_end_matches(',').parse().expect("a number")
}

/// A disk with data at both ends, holes between, and a block that is zero but for its last byte.
fn sample_disk(length_bytes: usize) -> Vec<u8> {
    let mut disk = vec![0; length_bytes];
    let edge = length_bytes.min(100_000);
    Random::part(7, 1).fill(&mut disk[..edge]);
    Random::part(7, 2).fill(&mut disk[length_bytes - edge..]);
    if length_bytes > 4 << 20 {
        disk[(3 << 20) - 1] = 1;
    }
    disk
}

/// Fails where the image holds other bytes than `disk`, read in pieces, or calls data a hole.
fn assert_holds(image: &dyn Image, disk: &[u8]) {
    assert_eq!(image.geometry().length_bytes, disk.len() as u64);
    let mut piece = vec![0xee; 300_000];
    for (number, expected) in disk.chunks(piece.len()).enumerate() {
        let at = number * piece.len();
        let part = &mut piece[..expected.len()];
        image.read_at(at as u64, part).unwrap();
        assert!(part == expected, "bytes from {at} differ");
    }
    let mut at = 0;
    while let Some(data) = image.next_data(at).unwrap() {
        assert!(
            failback_model::is_zero(&disk[at as usize..data.start() as usize]),
            "data in a hole from {at}"
        );
        assert!(data.end() > at && data.end() <= disk.len() as u64);
        at = data.end();
    }
    assert!(failback_model::is_zero(&disk[at as usize..]), "data in the last hole");
}
