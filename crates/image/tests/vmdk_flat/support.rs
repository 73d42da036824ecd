//! What the tests of flat VMDKs share.

use failback_image::{Access, Image, ImageSpec};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A descriptor as ESXi 7 writes it for a thin disk, changed-block tracking on.
pub(crate) const ESXI_V3: &str = include_str!("data/esxi-v3-ctk.vmdk");

static PROCESSES: RwLock<()> = RwLock::new(());

/// For a test that starts processes: until it runs its program, a child holds copies of every open file of this
/// process, locks included, so no other test may open anything meanwhile.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    PROCESSES.write().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that starts none.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    PROCESSES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Opens an image or says why not.
pub(crate) fn open(path: &Path, access: Access) -> Arc<dyn Image> {
    failback_image::open(&ImageSpec::from(path), access).unwrap_or_else(|error| panic!("{error}"))
}

/// The refusal of an image that must not open.
pub(crate) fn refusal(path: &Path, access: Access) -> failback_blockio::DiskError {
    match failback_image::open(&ImageSpec::from(path), access) {
        Ok(_) => panic!("{} opened", path.display()),
        Err(error) => error,
    }
}

/// All bytes of a disk.
pub(crate) fn bytes_of(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0xee; image.geometry().length_bytes as usize];
    image.read_at(0, &mut bytes).expect("the disk reads");
    bytes
}

/// Bytes that no two places of a disk share by chance.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// Runs qemu-img; `FAILBACK_QEMU_IMG` names another one than the installed.
pub(crate) fn qemu_img(arguments: &[&str]) -> Output {
    let program = std::env::var("FAILBACK_QEMU_IMG").unwrap_or_else(|_| "qemu-img".into());
    Command::new(&program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test (package qemu-utils): {error}"))
}

/// Runs qemu-img and expects it to succeed; its output.
pub(crate) fn qemu_ok(arguments: &[&str]) -> String {
    let output = qemu_img(arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "qemu-img {arguments:?}: {out}{err}");
    out.into_owned()
}

/// Expects libvmdk to read the descriptor and its extents, and dissect.hypervisor to read the bytes of `raw`.
pub(crate) fn two_more_readers_agree(vmdk: &Path, raw: &Path, length_bytes: u64) {
    let info = Command::new("vmdkinfo")
        .arg(vmdk)
        .output()
        .unwrap_or_else(|error| panic!("vmdkinfo is needed by this test (package libvmdk-utils): {error}"));
    let said = String::from_utf8_lossy(&info.stdout);
    assert!(info.status.success() && said.contains(&format!("({length_bytes} bytes)")), "vmdkinfo: {said}");
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let python = std::env::var_os("FAILBACK_PYTHON").unwrap_or_else(|| venv.into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vmdk_flat/data/read_with_dissect.py");
    let output = Command::new(&python).arg(script).args([vmdk, raw]).output().unwrap_or_else(|error| {
        panic!("a Python with dissect.hypervisor is needed; FAILBACK_PYTHON names it, tools/test makes one: {error}")
    });
    assert!(output.status.success(), "dissect.hypervisor: {}", String::from_utf8_lossy(&output.stderr));
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
