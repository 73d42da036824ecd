//! The kinds of images, the parts of their files, and what is to be seen when one of them fails.

use failback_testkit::Random;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A block, and a grain.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// A kind of image, and what is to be seen when a part of it fails.
pub(crate) struct Kind {
    /// What the image is called.
    pub(crate) name: &'static str,
    /// What qemu-img calls its format.
    pub(crate) qemu: &'static str,
    /// Options that create it.
    pub(crate) options: &'static [&'static str],
    /// The file that holds its data.
    pub(crate) data: &'static str,
    /// Its parts.
    pub(crate) parts: &'static [Part],
}

/// A part of an image's files.
pub(crate) struct Part {
    /// The file it lies in.
    pub(crate) file: &'static str,
    /// Where.
    pub(crate) place: Place,
    /// What a run says that cannot read it, as source.
    pub(crate) source: &'static str,
    /// What a run says that cannot read it, as target.
    pub(crate) read: &'static str,
    /// What a run says that cannot write it.
    pub(crate) write: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// A byte of the file.
    Byte(u64),
    /// The grain directory that a sparse extent's header names at this byte.
    Directory(u64),
    /// The first grain table of that directory.
    Table(u64),
    /// Where this block of the disk lies: grains stand in the order in which they were written.
    Grain(usize),
    /// The middle of the file, where a block and a grain begin.
    Middle,
    /// Its last sector.
    Last,
}

impl Place {
    pub(crate) fn offset_in(self, file: &Path) -> u64 {
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
            Self::Grain(block) => {
                let bytes = fs::read(file).expect("reads");
                let is_there = |sector: &&[u8]| *sector == &content(block)[..512];
                let before = bytes.chunks(512).take_while(|sector| !is_there(sector)).count() as u64 * 512;
                assert!(before < length, "block {block} is nowhere in {}", file.display());
                before
            }
            Self::Middle => length / 2 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            Self::Last => length - 512,
        }
    }
}

/// What a block of the disk holds before it changes, no other block the same.
pub(crate) fn content(block: usize) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    Random::part(600, block as u64).fill(&mut bytes);
    bytes
}

/// What a run says that nothing disturbed.
pub(crate) const UNDISTURBED: &str = "";

/// A descriptor is replaced by renaming, which a file that is served elsewhere does not allow. Refusals that follow may
/// overtake the error itself; they name it.
pub(crate) const DESCRIPTOR_NOT_REPLACED: &str = "FB203|FB204";

const fn part(
    file: &'static str,
    place: Place,
    source: &'static str,
    read: &'static str,
    write: &'static str,
) -> Part {
    Part { file, place, source, read, write }
}

pub(crate) const RAW: Kind = Kind {
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

pub(crate) const VHD: Kind = Kind {
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

pub(crate) const VMFS: Kind = Kind {
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

pub(crate) const TWO_GB_FLAT: Kind = Kind {
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
pub(crate) const REDUNDANT: u64 = 48;
pub(crate) const DIRECTORY: u64 = 56;

pub(crate) const SPARSE: Kind = Kind {
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
        part("t.vmdk", Place::Grain(63), "FB202", "FB202", "FB203"),
        part("t.vmdk", Place::Grain(126), "FB202", "FB202", "FB203"),
    ],
};

pub(crate) const TWO_GB_SPARSE: Kind = Kind {
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
        part("t-s001.vmdk", Place::Grain(63), "FB202", "FB202", "FB203"),
        part("t-s001.vmdk", Place::Grain(126), "FB202", "FB202", "FB203"),
    ],
};

/// An image that is only read: what qemu-img makes it with, and its parts with what a run says that cannot read them.
pub(crate) struct Foreign {
    pub(crate) name: &'static str,
    pub(crate) qemu: &'static str,
    pub(crate) options: &'static str,
    pub(crate) parts: &'static [(Place, &'static str)],
}

pub(crate) const FOREIGN: [Foreign; 3] = [
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
