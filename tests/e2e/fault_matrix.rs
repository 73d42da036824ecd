//! Every kind of image on a medium that fails at each part of its files: first sector or descriptor, tables, data, tail.
//!
//! Each time: the run ends as the table says, with a code; what is left is found sound, or refused clearly; and once the
//! medium is healed a second run brings the target home. A part that a run does not touch must not disturb it.

use crate::command::{Ended, failback, qemu_img};
use crate::disks::folder;
use crate::faulty_disk::{Fault, FaultyDisk};
use failback_testkit::Random;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const LENGTH_BYTES: u64 = 8 << 20;
const BLOCK_BYTES: usize = 64 << 10;

/// A kind of image, and what is to be seen when a part of it fails.
struct Kind {
    /// What the image is called.
    name: &'static str,
    /// What qemu-img calls its format.
    qemu: &'static str,
    /// Options that create it.
    options: &'static [&'static str],
    /// The file that holds its data.
    data: &'static str,
    /// Its parts.
    parts: &'static [Part],
}

/// A part of an image's files.
struct Part {
    /// The file it lies in.
    file: &'static str,
    /// Where.
    place: Place,
    /// What a run says that cannot read it, as source.
    source: &'static str,
    /// What a run says that cannot read it, as target.
    read: &'static str,
    /// What a run says that cannot write it.
    write: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// A byte of the file.
    Byte(u64),
    /// The grain directory that a sparse extent's header names at this byte.
    Directory(u64),
    /// The first grain table of that directory.
    Table(u64),
    /// The middle of the file, where a block and a grain begin.
    Middle,
    /// Its last sector.
    Last,
}

impl Place {
    fn offset_in(self, file: &Path) -> u64 {
        let length = fs::metadata(file).expect("exists").len();
        let sector_named_at = |at: u64| {
            let mut field = [0; 4];
            fs::File::open(file).expect("opens").read_exact_at(&mut field, at).expect("reads");
            u64::from(u32::from_le_bytes(field)) * 512
        };
        match self {
            Self::Byte(at) => at,
            Self::Directory(field_at) => sector_named_at(field_at),
            Self::Table(field_at) => sector_named_at(sector_named_at(field_at)),
            Self::Middle => length / 2 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            Self::Last => length - 512,
        }
    }
}

/// What a run says that nothing disturbed.
const UNDISTURBED: &str = "";

/// A descriptor is replaced by renaming, which a file that is served elsewhere does not allow. Refusals that follow may
/// overtake the error itself; they name it.
const DESCRIPTOR_NOT_REPLACED: &str = "FB203|FB204";

const fn part(
    file: &'static str,
    place: Place,
    source: &'static str,
    read: &'static str,
    write: &'static str,
) -> Part {
    Part { file, place, source, read, write }
}

const RAW: Kind = Kind {
    name: "t.raw",
    qemu: "raw",
    options: &[],
    data: "t.raw",
    parts: &[
        part("t.raw", Place::Byte(0), "FB202", "FB202", "FB203"),
        part("t.raw", Place::Middle, "FB202", "FB202", "FB203"),
        part("t.raw", Place::Last, "FB202", "FB202", "FB203"),
    ],
};

const VHD: Kind = Kind {
    name: "t.vhd",
    qemu: "vpc",
    options: &[],
    data: "t.vhd",
    parts: &[
        part("t.vhd", Place::Byte(0), "FB202", "FB202", "FB203"),
        part("t.vhd", Place::Middle, "FB202", "FB202", "FB203"),
        // The footer.
        part("t.vhd", Place::Last, "FB202", "FB202", UNDISTURBED),
    ],
};

const VMFS: Kind = Kind {
    name: "t.vmdk",
    qemu: "vmdk",
    options: &["--vmdk-type", "vmfs"],
    data: "t-flat.vmdk",
    parts: &[
        part("t.vmdk", Place::Byte(0), "FB202", "FB202", DESCRIPTOR_NOT_REPLACED),
        part("t-flat.vmdk", Place::Byte(0), "FB202", "FB202", "FB203"),
        part("t-flat.vmdk", Place::Middle, "FB202", "FB202", "FB203"),
        part("t-flat.vmdk", Place::Last, "FB202", "FB202", "FB203"),
    ],
};

const TWO_GB_FLAT: Kind = Kind {
    name: "t.vmdk",
    qemu: "vmdk",
    options: &["--vmdk-type", "twoGbMaxExtentFlat"],
    data: "t-f001.vmdk",
    parts: &[
        part("t.vmdk", Place::Byte(0), "FB202", "FB202", DESCRIPTOR_NOT_REPLACED),
        part("t-f001.vmdk", Place::Byte(0), "FB202", "FB202", "FB203"),
        part("t-f001.vmdk", Place::Middle, "FB202", "FB202", "FB203"),
        part("t-f001.vmdk", Place::Last, "FB202", "FB202", "FB203"),
    ],
};

/// Where a sparse extent's header names its redundant directory and its directory.
const REDUNDANT: u64 = 48;
const DIRECTORY: u64 = 56;

const SPARSE: Kind = Kind {
    name: "t.vmdk",
    qemu: "vmdk",
    options: &["--vmdk-type", "monolithicSparse"],
    data: "t.vmdk",
    parts: &[
        part("t.vmdk", Place::Byte(0), "FB202", "FB202", "FB203"),
        // The descriptor.
        part("t.vmdk", Place::Byte(512), "FB202", "FB202", "FB203"),
        // The directories never change once they are made; the tables do.
        part("t.vmdk", Place::Directory(REDUNDANT), "FB202", "FB202", UNDISTURBED),
        part("t.vmdk", Place::Directory(DIRECTORY), "FB202", "FB202", UNDISTURBED),
        part("t.vmdk", Place::Table(REDUNDANT), "FB202", "FB202", "FB203"),
        part("t.vmdk", Place::Table(DIRECTORY), "FB202", "FB202", "FB203"),
        part("t.vmdk", Place::Middle, "FB202", "FB202", "FB203"),
        part("t.vmdk", Place::Last, "FB202", "FB202", "FB203"),
    ],
};

const TWO_GB_SPARSE: Kind = Kind {
    name: "t.vmdk",
    qemu: "vmdk",
    options: &["--vmdk-type", "twoGbMaxExtentSparse"],
    data: "t-s001.vmdk",
    parts: &[
        part("t.vmdk", Place::Byte(0), "FB202", "FB202", DESCRIPTOR_NOT_REPLACED),
        part("t-s001.vmdk", Place::Byte(0), "FB202", "FB202", "FB203"),
        // The directories never change once they are made; the tables do.
        part("t-s001.vmdk", Place::Directory(REDUNDANT), "FB202", "FB202", UNDISTURBED),
        part("t-s001.vmdk", Place::Directory(DIRECTORY), "FB202", "FB202", UNDISTURBED),
        part("t-s001.vmdk", Place::Table(REDUNDANT), "FB202", "FB202", "FB203"),
        part("t-s001.vmdk", Place::Table(DIRECTORY), "FB202", "FB202", "FB203"),
        part("t-s001.vmdk", Place::Middle, "FB202", "FB202", "FB203"),
        part("t-s001.vmdk", Place::Last, "FB202", "FB202", "FB203"),
    ],
};

/// An image that is only read: what qemu-img makes it with, and its parts with what a run says that cannot read them.
struct Foreign {
    name: &'static str,
    qemu: &'static str,
    options: &'static str,
    parts: &'static [(Place, &'static str)],
}

const FOREIGN: [Foreign; 3] = [
    Foreign {
        name: "t.vhdx",
        qemu: "vhdx",
        options: "subformat=dynamic,block_size=1M",
        parts: &[
            (Place::Byte(0), "FB202"),
            // Both headers, both region tables: a second one helps against a torn write, not against a bad medium.
            (Place::Byte(64 << 10), "FB202"),
            (Place::Byte(128 << 10), "FB202"),
            (Place::Byte(192 << 10), "FB202"),
            (Place::Byte(256 << 10), "FB202"),
            // Metadata, block allocation table, data.
            (Place::Byte(2 << 20), "FB202"),
            (Place::Byte(3 << 20), "FB202"),
            (Place::Middle, "FB202"),
            (Place::Last, "FB202"),
        ],
    },
    Foreign {
        name: "t.vhd",
        qemu: "vpc",
        options: "subformat=dynamic,force_size=on",
        parts: &[
            // The copy of the footer, the dynamic header, the block allocation table, data, the footer.
            (Place::Byte(0), "FB202"),
            (Place::Byte(512), "FB202"),
            (Place::Byte(1536), "FB202"),
            (Place::Middle, "FB202"),
            (Place::Last, "FB202"),
        ],
    },
    Foreign {
        name: "t.vmdk",
        qemu: "vmdk",
        options: "subformat=streamOptimized",
        parts: &[
            // Header, descriptor, data, the marker at the end.
            (Place::Byte(0), "FB202"),
            (Place::Byte(512), "FB202"),
            (Place::Middle, "FB202"),
            (Place::Last, "FB202"),
        ],
    },
];

/// An image of a kind that holds the older state, and the raw file that comes home into it.
struct Home {
    folder: TempDir,
    image: PathBuf,
    after: PathBuf,
}

impl Home {
    /// `image` has holes; every block of `after` differs from it, and holes become data.
    fn new(kind: &Kind) -> Self {
        let folder = folder();
        let (before, after) = (folder.path().join("before.raw"), folder.path().join("after.raw"));
        let mut bytes = vec![0; LENGTH_BYTES as usize];
        for (number, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
            if number % 3 != 2 {
                Random::part(600, number as u64).fill(block);
            }
        }
        // Both are one disk by its signature, however much of it differs.
        bytes[440..444].copy_from_slice(b"disk");
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&before, &bytes).expect("writes");
        for block in bytes.chunks_mut(BLOCK_BYTES) {
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
    let home = Home::new(kind);
    let failing = FaultyDisk::in_place(&home.file(kind.data), Fault::Flush, 0);
    let said = said(&sync(&home.after, &home.image, &[]));
    drop(failing);
    if !is_expected(&said, "FB204") {
        wrong.push(format!("{} cannot be flushed: said {said:?}", kind.data));
    }
    if let Err(left) = home.comes_home(kind) {
        wrong.push(format!("{} could not be flushed: {left}", kind.data));
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
