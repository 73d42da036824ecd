//! Every kind of image on a medium that fails at each part of its files: first sector or descriptor, tables, data, tail.
//!
//! Each time: the run ends as the table says, with a code; what is left is found sound, or refused clearly; and once the
//! medium is healed a second run brings the target home. A part that a run does not touch must not disturb it.

use crate::command::{Ended, failback, qemu_img};
use crate::disks::folder;
use crate::faulty_disk::{Fault, FaultyDisk};
use crate::image_parts::{
    BLOCK_BYTES, FOREIGN, Kind, Place, RAW, SPARSE, TWO_GB_FLAT, TWO_GB_SPARSE, UNDISTURBED, VHD, VMFS,
    content,
};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const LENGTH_BYTES: u64 = 8 << 20;
/// A quarter that does not change, or it would be another disk; neither at an end nor in the middle, where parts fail.
const SAME_BLOCKS: std::ops::Range<usize> = 4..36;

/// An image of a kind that holds the older state, and the raw file that comes home into it.
struct Home {
    folder: TempDir,
    image: PathBuf,
    after: PathBuf,
}

impl Home {
    /// `image` has holes; most blocks of `after` differ from it, and holes become data.
    fn new(kind: &Kind) -> Self {
        let folder = folder();
        let (before, after) = (folder.path().join("before.raw"), folder.path().join("after.raw"));
        let mut bytes = vec![0; LENGTH_BYTES as usize];
        for (number, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
            if number % 3 != 2 {
                block.copy_from_slice(&content(number));
            }
        }
        fs::write(&before, &bytes).expect("writes");
        for (number, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
            if SAME_BLOCKS.contains(&number) {
                continue;
            }
            block[5000..9000].fill(0x5a);
            block[..440].fill(0xa5);
            let end = block.len();
            block[end - 512..].fill(0xa5);
        }
        fs::write(&after, &bytes).expect("writes");
        let home = Self { image: folder.path().join(kind.name), folder, after };
        sync(&before, &home.image, kind.options).success();
        home
    }

    /// The same, with an image that was just created: all holes.
    fn empty(kind: &Kind) -> Self {
        let home = Self::new(kind);
        for part in kind.parts {
            let _there_may_be_several_in_a_file = fs::remove_file(home.file(part.file));
        }
        let length = LENGTH_BYTES.to_string();
        let create = ["image".as_ref(), "create".as_ref(), home.image.as_os_str(), length.as_ref()];
        failback(create.into_iter().chain(kind.options.iter().map(OsStr::new))).success();
        home
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// After a fault that is healed: what is left is sound or refused with a code, and a second run brings it home.
    fn comes_home(&self, kind: &Kind) -> Result<(), String> {
        let checked = failback(["image".as_ref(), "check".as_ref(), self.image.as_os_str()]).outcome();
        if let Err((exit, codes)) = checked {
            // Unclean is no damage: the next run compares every block anyway.
            if codes != ["FB110"] {
                return Err(format!("image check: {exit:?} {codes:?}"));
            }
        }
        if kind.qemu == "vmdk" && kind.options.iter().any(|option| option.contains("Sparse")) {
            qemu_img(&["check", "-f", kind.qemu], &[&self.image]);
        }
        if let Err(second) = sync(&self.after, &self.image, &["--verify"]).outcome() {
            return Err(format!("second run: {second:?}"));
        }
        qemu_img(&["compare", "-f", "raw", "-F", kind.qemu], &[&self.after, &self.image]);
        failback(["image".as_ref(), "check".as_ref(), self.image.as_os_str()]).success();
        Ok(())
    }
}

fn sync(source: &Path, target: &Path, options: &[&str]) -> Ended {
    let ends = ["sync".as_ref(), source.as_os_str(), target.as_os_str()];
    failback(ends.into_iter().chain(options.iter().map(OsStr::new)))
}

/// What a run said: the codes of its errors, or nothing.
fn said(ended: &Ended) -> String {
    match ended.outcome() {
        Ok(_) => UNDISTURBED.into(),
        Err((exit, codes)) => format!("{} ({exit:?})", codes.join(",")),
    }
}

/// Whether a run said what the table says, where `|` stands between alternatives; each with the exit code of a medium
/// that failed.
fn is_expected(said: &str, expected: &str) -> bool {
    expected == said || expected.split('|').any(|code| said == format!("{code} (Some(4))"))
}

/// Lets each part of the kind fail, and collects what is not as the table says, so that one run tells everything.
fn walk(kind: &Kind) {
    let mut wrong = Vec::new();
    for part in kind.parts {
        for (fault, as_source, expected) in [
            (Fault::Read, true, part.source),
            (Fault::Read, false, part.read),
            (Fault::Write, false, part.write),
        ] {
            let home = Home::new(kind);
            let file = home.file(part.file);
            let at = part.place.offset_in(&file);
            let what = format!("{} at {:?} ({at}), {fault:?}, as source: {as_source}", part.file, part.place);
            let failing = FaultyDisk::in_place(&file, fault, at);
            let ended = if as_source {
                sync(&home.image, &home.file("copy.raw"), &[])
            } else {
                sync(&home.after, &home.image, &[])
            };
            drop(failing);
            let said = said(&ended);
            if !is_expected(&said, expected) {
                wrong.push(format!("{what}: said {said:?}, not {expected:?}"));
            }
            if let Err(left) = home.comes_home(kind) {
                wrong.push(format!("{what}: {left}"));
            }
        }
    }
    // Where grains are found through tables, a disk of holes has none of its own to fail.
    let grows = kind.options.iter().any(|option| option.contains("Sparse"));
    for part in kind.parts.iter().filter(|part| !grows || !matches!(part.place, Place::Grain(_))) {
        let home = Home::empty(kind);
        let file = home.file(part.file);
        let failing = FaultyDisk::in_place(&file, Fault::Write, part.place.offset_in(&file));
        let said = said(&sync(&home.after, &home.image, &[]));
        drop(failing);
        let what = format!("new image, {} at {:?}", part.file, part.place);
        if !is_expected(&said, part.write) {
            wrong.push(format!("{what}: said {said:?}, not {:?}", part.write));
        }
        if let Err(left) = home.comes_home(kind) {
            wrong.push(format!("{what}: {left}"));
        }
    }
    for (what, home) in [("old image", Home::new(kind)), ("new image", Home::empty(kind))] {
        let failing = FaultyDisk::in_place(&home.file(kind.data), Fault::Flush, 0);
        let said = said(&sync(&home.after, &home.image, &[]));
        drop(failing);
        if !is_expected(&said, "FB204") {
            wrong.push(format!("{what}, {} cannot be flushed: said {said:?}", kind.data));
        }
        if let Err(left) = home.comes_home(kind) {
            wrong.push(format!("{what}, {} could not be flushed: {left}", kind.data));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn raw() {
    walk(&RAW);
}

#[test]
fn vhd_fixed() {
    walk(&VHD);
}

#[test]
fn vmdk_vmfs() {
    walk(&VMFS);
}

#[test]
fn vmdk_two_gb_max_extent_flat() {
    walk(&TWO_GB_FLAT);
}

#[test]
fn vmdk_monolithic_sparse() {
    walk(&SPARSE);
}

#[test]
fn vmdk_two_gb_max_extent_sparse() {
    walk(&TWO_GB_SPARSE);
}

#[test]
fn images_that_are_only_read() {
    let mut wrong = Vec::new();
    for foreign in FOREIGN {
        let home = Home::new(&RAW);
        let source = home.file(foreign.name);
        qemu_img(
            &["convert", "-f", "raw", "-O", foreign.qemu, "-o", foreign.options],
            &[&home.after, &source],
        );
        for &(place, expected) in foreign.parts {
            let at = place.offset_in(&source);
            let failing = FaultyDisk::in_place(&source, Fault::Read, at);
            let said = said(&sync(&source, &home.image, &[]));
            drop(failing);
            if !is_expected(&said, expected) {
                wrong.push(format!("{} at {place:?} ({at}): said {said:?}, not {expected:?}", foreign.name));
            }
            sync(&source, &home.image, &["--verify"]).success();
            qemu_img(&["compare", "-f", "raw", "-F", "raw"], &[&home.after, &home.image]);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
