//! What is refused before anything is written, and what is only said.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass, pass_ok};
use failback_blockio::UnitSource;
use failback_model::{Code, SectorSize, Severity};
use failback_pass::{Cancel, PassError, PassOptions, Target, plan};
use failback_testkit::{MemoryDevice, Random};
use std::sync::Arc;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Random::new(seed).fill(&mut bytes);
    bytes
}

fn refusal(outcome: Result<failback_pass::Outcome, PassError>) -> Vec<Code> {
    match outcome {
        Err(PassError::Refused(findings)) => findings.iter().map(|finding| finding.code).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn another_disk_is_refused_by_its_contents_unless_told_otherwise() {
    let (source, target) =
        (MemoryImage::new(&noise(1, 4 << 20), []), MemoryImage::new(&noise(2, 4 << 20), []));
    let careful = PassOptions { accept_mismatch: false, ..options() };
    let before = target.bytes();
    assert_eq!(refusal(pass(&source, &target, false, &careful).0), [Code::WrongDisk]);
    assert_eq!(target.bytes(), before, "nothing is written");
    let (outcome, _) = pass_ok(&source, &target, &options());
    assert_eq!(outcome.findings[0].severity, Severity::Warning);
}

#[test]
fn another_partition_table_is_refused_even_where_contents_agree() {
    let mut ours = noise(1, 4 << 20);
    ours[510..512].copy_from_slice(&[0x55, 0xaa]);
    ours[512..520].fill(0);
    let mut theirs = ours.clone();
    theirs[440] ^= 1;
    let careful = PassOptions { accept_mismatch: false, ..options() };
    let source = MemoryImage::new(&ours, []);
    assert_eq!(refusal(pass(&source, &MemoryImage::new(&theirs, []), false, &careful).0), [Code::WrongDisk]);
}

#[test]
fn an_equal_disk_id_does_not_excuse_other_contents() {
    let mut ours = noise(1, 4 << 20);
    ours[510..512].copy_from_slice(&[0x55, 0xaa]);
    ours[512..520].fill(0);
    // A clone of the same template: the id and little else agree.
    let mut theirs = noise(7, 4 << 20);
    theirs[..512].copy_from_slice(&ours[..512]);
    theirs[512..520].fill(0);
    let careful = PassOptions { accept_mismatch: false, ..options() };
    let source = MemoryImage::new(&ours, []);
    assert_eq!(refusal(pass(&source, &MemoryImage::new(&theirs, []), false, &careful).0), [Code::WrongDisk]);
    // The same machine after a long time: most of its blocks changed, an eighth of them did not.
    theirs[3584 << 10..].copy_from_slice(&ours[3584 << 10..]);
    pass_ok(&source, &MemoryImage::new(&theirs, []), &careful);
}

#[test]
fn a_blank_source_does_not_wipe_a_full_target() {
    let length = 4 << 20;
    let careful = PassOptions { accept_mismatch: false, ..options() };
    let full = noise(2, length);
    // Zeros that were written, zeros that are holes, and a disk that holds a partition table and nothing else.
    let mut hardly_anything = vec![0; length];
    hardly_anything[440..444].copy_from_slice(b"disk");
    hardly_anything[510..512].copy_from_slice(&[0x55, 0xaa]);
    for source in [
        MemoryImage::new(&vec![0; length], []),
        MemoryImage::over(MemoryDevice::new(length as u64), []),
        MemoryImage::new(&hardly_anything, []),
    ] {
        let target = MemoryImage::new(&full, []);
        assert_eq!(refusal(pass(&source, &target, false, &careful).0), [Code::WrongDisk]);
        assert_eq!(target.bytes(), full, "nothing is written");
        pass_ok(&source, &target, &options());
    }
    // A source that zeroed most of what it once held, but not nearly all of it, is the same disk.
    let mut trimmed = full.clone();
    trimmed[..3 << 20].fill(0);
    pass_ok(&MemoryImage::new(&trimmed, []), &MemoryImage::new(&full, []), &careful);
}

#[test]
fn an_interrupted_copy_of_a_sparse_disk_is_resumed() {
    let mut source = noise(1, 8 << 20);
    source[1 << 20..7 << 20].fill(0);
    let careful = PassOptions { accept_mismatch: false, ..options() };
    for copied in [70_000, 1 << 20, (7 << 20) + 500_000] {
        let mut begun = vec![0; 8 << 20];
        begun[..copied].copy_from_slice(&source[..copied]);
        pass_ok(&MemoryImage::new(&source, []), &MemoryImage::new(&begun, []), &careful);
    }
}

#[test]
fn the_beginning_of_an_interrupted_copy_is_no_other_disk() {
    let source = noise(1, 4 << 20);
    let mut begun = vec![0; 4 << 20];
    begun[..700_000].copy_from_slice(&source[..700_000]);
    let careful = PassOptions { accept_mismatch: false, ..options() };
    pass_ok(&MemoryImage::new(&source, []), &MemoryImage::new(&begun, []), &careful);
}

#[test]
fn a_longer_target_keeps_its_tail() {
    let (source, target) =
        (MemoryImage::new(&noise(1, 1_000_000), []), MemoryImage::new(&noise(2, 1_500_000), []));
    let (outcome, _) = pass_ok(&source, &target, &options());
    assert!(outcome.findings.iter().any(|finding| finding.code == Code::TargetLonger));
    assert_eq!(target.bytes()[1_000_000..], noise(2, 1_500_000)[1_000_000..]);
}

#[test]
fn a_longer_source_needs_zeros_or_growth() {
    let mut long = noise(1, 1_500_000);
    let short = MemoryImage::new(&long[..1_000_000], []);
    let source = MemoryImage::new(&long, []);
    assert_eq!(refusal(pass(&source, &short, false, &options()).0), [Code::TargetTooSmall]);
    let (outcome, _) = pass(&source, &short, false, &PassOptions { grow: true, ..options() });
    outcome.expect("grown");
    assert_same(&source, &short);

    long[1_000_000..].fill(0);
    let (source, short) = (MemoryImage::new(&long, []), MemoryImage::new(&noise(3, 1_000_000), []));
    let (outcome, _) = pass(&source, &short, false, &options());
    assert_eq!(outcome.expect("the excess is zero").findings[0].code, Code::ExcessTrimmed);
    assert_eq!(short.bytes(), long[..1_000_000]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_a_plan_writes_nothing() {
    let source = MemoryImage::new(&noise(1, 4 << 20), []);
    let device = MemoryDevice::from_bytes(&noise(2, 3 << 20)).with_sector_size(SectorSize::B4096);
    let target = MemoryImage::over(device, []);
    let careful = PassOptions { accept_mismatch: false, ..options() };
    let plan = plan(
        &(Arc::clone(&source) as _),
        &Target::Existing(Arc::clone(&target) as _),
        &careful,
        &Cancel::default(),
    )
    .unwrap();
    let codes: Vec<_> = plan.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::SectorSizeDiffers, Code::TargetTooSmall, Code::WrongDisk]);
    assert!(plan.is_refused() && target.written_pages().is_empty());
    assert_eq!(
        (plan.read_source_bytes, plan.strategy),
        (source.geometry().length_bytes, "original-location")
    );
}

#[test]
fn a_disk_of_large_sectors_is_not_created_as_one_of_small_ones() {
    let large = MemoryDevice::from_bytes(&noise(1, 1 << 20)).with_sector_size(SectorSize::B4096);
    let source = MemoryImage::over(large.duplicate(), []);
    let codes = |target: &Target| -> Vec<Code> {
        let plan =
            plan(&(Arc::clone(&source) as _), target, &options(), &Cancel::default()).expect("planned");
        plan.findings.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&Target::New(None)), [Code::SectorSizeDiffers]);
    let small = MemoryImage::over(MemoryDevice::new(1 << 20), []);
    assert_eq!(codes(&Target::New(Some(Arc::clone(&small) as _))), [Code::SectorSizeDiffers]);
    assert_eq!(refusal(pass(&source, &small, true, &options()).0), [Code::SectorSizeDiffers]);
    assert!(small.written_pages().is_empty());
    let made = MemoryImage::over(MemoryDevice::new(1 << 20).with_sector_size(SectorSize::B4096), []);
    assert_eq!(codes(&Target::New(Some(made as _))), []);
}
