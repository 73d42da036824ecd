//! What the tests of hosted VMDKs share.

use failback_image::vmdk::{create, open};
use failback_image::{Access, CreateOptions, Image, VmdkType};
use failback_testkit::GeneratedDisk;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The kinds that these tests are about.
pub(crate) const KINDS: [VmdkType; 3] =
    [VmdkType::MonolithicSparse, VmdkType::TwoGbMaxExtentSparse, VmdkType::StreamOptimized];

/// Bytes of a grain of the images made here.
pub(crate) const GRAIN: u64 = 64 << 10;

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

/// A disk with holes, text and noise, as small steps as an image can tell apart.
pub(crate) fn content(seed: u64, length_bytes: u64) -> Vec<u8> {
    GeneratedDisk::new(seed, length_bytes, 96 << 10).bytes()
}

/// Makes an image of this kind.
pub(crate) fn make(path: &Path, kind: VmdkType, length_bytes: u64) -> Arc<dyn Image> {
    let options = CreateOptions { vmdk_type: kind, ..CreateOptions::new(length_bytes) };
    create(path, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes what is not zero, in pieces of 40,000 bytes that meet no boundary of the format.
pub(crate) fn fill(image: &dyn Image, bytes: &[u8]) {
    for (index, piece) in bytes.chunks(40_000).enumerate() {
        if piece.iter().any(|&byte| byte != 0) {
            image.write_at(index as u64 * 40_000, piece).expect("written");
        }
    }
}

/// Makes an image that holds `bytes`, closed.
pub(crate) fn made(folder: &Path, kind: VmdkType, bytes: &[u8]) -> PathBuf {
    let path = folder.join("disk.vmdk");
    let image = make(&path, kind, bytes.len() as u64);
    fill(&*image, bytes);
    image.close().expect("closed");
    path
}

/// All bytes of an image on disk.
pub(crate) fn read_back(path: &Path) -> Vec<u8> {
    let image = open(path, Access::Read).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = vec![0xee; image.geometry().length_bytes as usize];
    for (index, piece) in bytes.chunks_mut(300_000).enumerate() {
        image.read_at(index as u64 * 300_000, piece).unwrap_or_else(|error| panic!("{error}"));
    }
    bytes
}

/// The refusal of an image that must not open.
pub(crate) fn refusal(path: &Path, access: Access) -> failback_blockio::DiskError {
    match open(path, access) {
        Ok(_) => panic!("{} opened", path.display()),
        Err(error) => error,
    }
}

/// Asserts equality without printing megabytes.
pub(crate) fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {:#x}, not {:#x}", found[at], expected[at]);
    }
}

/// Runs qemu-img; `FAILBACK_QEMU_IMG` names another one than the installed.
pub(crate) fn qemu_img(arguments: &[&str]) -> Output {
    let program = std::env::var("FAILBACK_QEMU_IMG").unwrap_or_else(|_| "qemu-img".into());
    run(&program, "qemu-utils", arguments)
}

/// Runs a program of a named package.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test ({package}): {error}"))
}

/// What a program printed; panics where it failed.
pub(crate) fn expect_ok(output: &Output, what: &str) -> String {
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    said
}

/// Runs qemu-img and expects it to succeed.
pub(crate) fn qemu_ok(arguments: &[&str]) -> String {
    expect_ok(&qemu_img(arguments), &format!("qemu-img {arguments:?}"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
