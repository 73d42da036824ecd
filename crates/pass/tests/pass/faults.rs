//! Faults at either end: a clear error, and a second run that succeeds.

use crate::memory_image::MemoryImage;
use crate::{assert_same, options, pass, pass_ok};
use failback_blockio::{DiskError, UnitSource};
use failback_image::Image;
use failback_model::{ByteRange, Code, DiskGeometry};
use failback_pass::{Cancel, PassError, PassOptions, Progress, Target, run};
use failback_testkit::{Call, Damage, Fault, Random, When};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LENGTH: usize = 8 << 20;

fn disks() -> (Vec<u8>, Vec<u8>) {
    let (mut new, mut old) = (vec![0; LENGTH], vec![0; LENGTH]);
    Random::new(1).fill(&mut old);
    new.copy_from_slice(&old);
    for page in (0..LENGTH / 4096).step_by(7) {
        Random::new(page as u64).fill(&mut new[page * 4096..][..4096]);
    }
    (new, old)
}

fn code(outcome: Result<failback_pass::Outcome, PassError>) -> (Code, String) {
    let findings = outcome.expect_err("the fault ends the pass").findings();
    (findings[0].code, findings[0].evidence.clone())
}

#[test]
fn an_error_at_either_end_is_named_and_a_second_run_succeeds() {
    let (new, old) = disks();
    let at = |call, n, damage| Fault { call, when: When::Nth(n), damage };
    let source_faults = [
        (at(Call::Read, 1, Damage::Io), Code::ReadFailed),
        (at(Call::Read, 20, Damage::Io), Code::ReadFailed),
        (at(Call::Read, 40, Damage::Io), Code::ReadFailed),
        (at(Call::Read, 12, Damage::Short), Code::ChangedMeanwhile),
    ];
    for (fault, expected) in source_faults {
        let (source, target) = (MemoryImage::new(&new, [fault]), MemoryImage::new(&old, []));
        let (code, evidence) = code(pass(&source, &target, false, &options()).0);
        assert_eq!(code, expected, "{evidence}");
        assert!(evidence.contains("at byte"), "{evidence}");
        pass_ok(&source, &target, &options());
    }
    let target_faults = [
        (at(Call::Read, 15, Damage::Io), Code::ReadFailed),
        (at(Call::Write, 1, Damage::Io), Code::WriteFailed),
        (at(Call::Write, 100, Damage::NoSpace), Code::NoSpace),
        (at(Call::Write, 50, Damage::Short), Code::WriteFailed),
        (at(Call::Sync, 1, Damage::Io), Code::FlushFailed),
    ];
    for (fault, expected) in target_faults {
        let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&old, [fault]));
        let (code, evidence) = code(pass(&source, &target, false, &options()).0);
        assert_eq!(code, expected, "{evidence}");
        pass_ok(&source, &target, &options());
    }
}

#[test]
fn a_medium_that_lies_while_it_is_scanned_is_repaired() {
    let (new, old) = disks();
    // The target's first read of this byte is wrong: its digest is wrong, and so are its page digests.
    let lie = |when| Fault { call: Call::Read, when, damage: Damage::FlippedBit };
    for number in [1, 5, 33, 40] {
        let source = MemoryImage::new(&new, []);
        let target = MemoryImage::new(&old, [lie(When::Nth(number))]);
        let (outcome, _) = pass(&source, &target, false, &PassOptions { verify: true, ..options() });
        outcome.unwrap_or_else(|error| panic!("read {number}: {error}"));
        assert_eq!(target.struck(), 1);
        assert_same(&source, &target);
    }
}

#[test]
fn verify_finds_what_changed_behind_its_back_and_repairs_it() {
    let (new, old) = disks();
    let source = MemoryImage::new(&new, []);
    let target = Arc::new(Tampering { image: MemoryImage::new(&old, []), flushes: AtomicU64::new(0) });
    let progress = Arc::new(Progress::default());
    let options = PassOptions { verify: true, ..options() };
    let image = Arc::clone(&target) as Arc<dyn Image>;
    let outcome =
        run(Arc::clone(&source) as _, Target::Existing(image), &options, &progress, &Cancel::default());
    assert!(outcome.expect("repaired").verified);
    assert_same(&source, &target.image);
    assert_eq!(Progress::get(&progress.blocks_repaired), 1);
}

#[test]
fn a_source_that_changes_while_it_is_read_ends_the_pass() {
    let (new, old) = disks();
    let inner = MemoryImage::new(&new, []);
    let source = Arc::new(Changing { image: Arc::clone(&inner), reads: AtomicU64::new(0) });
    let target = MemoryImage::new(&old, []);
    let progress = Arc::new(Progress::default());
    let to = Target::Existing(Arc::clone(&target) as _);
    let (code, evidence) = code(run(source, to, &options(), &progress, &Cancel::default()));
    assert_eq!(code, Code::ChangedMeanwhile, "{evidence}");
    pass_ok(&inner, &target, &options());
}

#[test]
fn a_cancelled_pass_says_so_and_a_second_run_finishes_it() {
    let (new, old) = disks();
    let (source, target) = (MemoryImage::new(&new, []), MemoryImage::new(&old, []));
    let cancel = Cancel::default();
    cancel.cancel();
    let to = Target::Existing(Arc::clone(&target) as _);
    let outcome = run(Arc::clone(&source) as _, to, &options(), &Arc::new(Progress::default()), &cancel);
    assert_eq!(code(outcome).0, Code::Cancelled);
    pass_ok(&source, &target, &options());
}

/// An image whose medium changes a byte after the first flush: what a dying disk does to what it acknowledged.
struct Tampering {
    image: Arc<MemoryImage>,
    flushes: AtomicU64,
}

/// A disk whose bytes change once it has been scanned.
struct Changing {
    image: Arc<MemoryImage>,
    reads: AtomicU64,
}

macro_rules! delegate {
    ($kind:ty) => {
        impl Image for $kind {
            fn identity(&self) -> failback_image::ImageIdentity {
                self.image.identity()
            }
            fn provisioning(&self) -> failback_image::Provisioning {
                self.image.provisioning()
            }
            fn allocated_bytes(&self) -> Result<u64, DiskError> {
                self.image.allocated_bytes()
            }
            fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
                self.image.write_at(offset_bytes, bytes)
            }
            fn zero(&self, range: ByteRange, zeroing: failback_blockio::Zeroing) -> Result<(), DiskError> {
                Image::zero(&*self.image, range, zeroing)
            }
            fn flush(&self) -> Result<(), DiskError> {
                self.after_flush(self.image.flush())
            }
            fn grow(&self, length_bytes: u64) -> Result<(), DiskError> {
                self.image.grow(length_bytes)
            }
            fn close(&self) -> Result<(), DiskError> {
                self.image.close()
            }
            fn check(&self) -> Result<Vec<failback_model::Finding>, DiskError> {
                self.image.check()
            }
        }

        impl UnitSource for $kind {
            fn geometry(&self) -> DiskGeometry {
                self.image.geometry()
            }
            fn name(&self) -> &Path {
                self.image.name()
            }
            fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
                self.before_read(buffer.len());
                UnitSource::read_at(&*self.image, offset_bytes, buffer)
            }
            fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
                UnitSource::next_data(&*self.image, from_bytes)
            }
        }
    };
}

delegate!(Tampering);
delegate!(Changing);

impl Tampering {
    fn before_read(&self, _length: usize) {}

    fn after_flush(&self, flushed: Result<(), DiskError>) -> Result<(), DiskError> {
        if self.flushes.fetch_add(1, Ordering::Relaxed) == 0 {
            self.image.tamper(1_000_000, b"rot");
        }
        flushed
    }
}

impl Changing {
    fn before_read(&self, length: usize) {
        // Once the scan has read it all (units of 256 KiB), something changes in every block that is refined.
        if length >= 1 << 18 && self.reads.fetch_add(1, Ordering::Relaxed) == (LENGTH >> 18) as u64 - 1 {
            for block in 0..LENGTH as u64 / 65_536 {
                self.image.tamper(block * 65_536 + 5, b"new");
            }
        }
    }

    fn after_flush(&self, flushed: Result<(), DiskError>) -> Result<(), DiskError> {
        flushed
    }
}
