//! Writing the descriptor of a new disk, with the keys, the order and the geometry that ESXi and qemu expect.

use super::{CreateType, ExtentKind, SECTOR_BYTES};
use std::fmt::Write;

const GIB: u64 = 1 << 30;

/// The controller that a disk was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdapterType {
    /// LSI Logic; ESXi writes the same word for SAS and for its paravirtual controller.
    #[default]
    LsiLogic,
    /// BusLogic.
    BusLogic,
    /// IDE.
    Ide,
}

impl AdapterType {
    /// The type by the word that ESXi, qemu or an operator uses.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "lsilogic" | "lsisas" | "lsisas1068" | "pvscsi" | "legacyesx" | "sata" | "nvme" => {
                Some(Self::LsiLogic)
            }
            "buslogic" => Some(Self::BusLogic),
            "ide" => Some(Self::Ide),
            _ => None,
        }
    }

    /// The word written to `ddb.adapterType`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LsiLogic => "lsilogic",
            Self::BusLogic => "buslogic",
            Self::Ide => "ide",
        }
    }
}

/// Cylinders, heads and sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChsGeometry {
    /// Cylinders.
    pub cylinders: u64,
    /// Heads of each cylinder.
    pub heads: u64,
    /// Sectors of each track.
    pub sectors: u64,
}

impl ChsGeometry {
    /// What ESXi writes for a disk of this length: SCSI disks grow their tracks with their size, IDE disks end at the
    /// 16383 cylinders of ATA.
    ///
    /// VMware's knowledge base, articles 1026254 and 1026266 (how to write a lost descriptor anew), has the three steps of
    /// SCSI disks: under 1 GB, up to 2 GB, above. On which side a disk of exactly 1 or 2 GiB lies, those who quote it do
    /// not agree; nothing depends on it, since guests take their geometry from the controller.
    pub const fn of(adapter: AdapterType, length_bytes: u64) -> Self {
        let (heads, sectors) = match adapter {
            AdapterType::Ide => (16, 63),
            _ if length_bytes <= GIB => (64, 32),
            _ if length_bytes <= 2 * GIB => (128, 32),
            _ => (255, 63),
        };
        let cylinders = length_bytes / (heads * sectors * SECTOR_BYTES);
        let capped = matches!(adapter, AdapterType::Ide) && cylinders > 16_383;
        Self { cylinders: if capped { 16_383 } else { cylinders }, heads, sectors }
    }
}

/// One extent of a new disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExtent {
    /// Its length; a multiple of 512.
    pub length_bytes: u64,
    /// What it is stored as.
    pub kind: ExtentKind,
    /// Name of its file beside the descriptor.
    pub name: String,
}

impl NewExtent {
    /// Its line, without the end of line.
    pub(super) fn line(&self) -> String {
        let sectors = self.length_bytes / SECTOR_BYTES;
        let name = &self.name;
        match &self.kind {
            ExtentKind::Flat { offset_bytes, vmfs: false } => {
                format!("RW {sectors} FLAT \"{name}\" {}", offset_bytes / SECTOR_BYTES)
            }
            ExtentKind::Flat { vmfs: true, .. } => format!("RW {sectors} VMFS \"{name}\""),
            ExtentKind::Sparse => format!("RW {sectors} SPARSE \"{name}\""),
            ExtentKind::Zero => format!("RW {sectors} ZERO"),
            ExtentKind::Delta(word) | ExtentKind::Mapping(word) => format!("RW {sectors} {word} \"{name}\""),
        }
    }
}

/// A disk that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDescriptor {
    /// Content id; also the end of the long one.
    pub content_id: u32,
    /// The rest of `ddb.longContentID`.
    pub long_content_id: [u8; 12],
    /// Kind.
    pub create_type: CreateType,
    /// The extents in the disk's order.
    pub extents: Vec<NewExtent>,
    /// Controller.
    pub adapter: AdapterType,
    /// `ddb.uuid`; where none is given, the caller makes a fresh one of 16 random bytes with [`esxi_uuid`].
    pub uuid: String,
    /// Whether space is taken as it is written.
    pub thin: bool,
}

/// A uuid as ESXi writes it: VMware's prefix `60 00 C2 9`, then the given bytes' digits.
pub fn esxi_uuid(mut random: [u8; 16]) -> String {
    random[..3].copy_from_slice(&[0x60, 0x00, 0xc2]);
    random[3] = 0x90 | (random[3] & 0x0f);
    uuid_text(random)
}

/// These bytes as ESXi writes a uuid.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let mut digits = bytes.map(|byte| format!("{byte:02x}"));
    if bytes.starts_with(&[0x60, 0x00, 0xc2]) {
        // ESXi shows the vendor's prefix in capitals and leaves the rest as it came.
        digits[2] = "C2".into();
    }
    let (head, tail) = digits.split_at(8);
    format!("{}-{}", head.join(" "), tail.join(" "))
}

impl NewDescriptor {
    /// Length of the disk.
    pub fn length_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length_bytes).sum()
    }

    /// The whole text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID=ffffffff\ncreateType=\"{}\"\n\n\
             # Extent description\n",
            self.content_id,
            self.create_type.as_str()
        );
        for extent in &self.extents {
            text += &extent.line();
            text.push('\n');
        }
        text += "\n# The Disk Data Base\n#DDB\n\n";
        for (key, value) in self.entries() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "ddb.{key} = \"{value}\"");
        }
        text
    }

    /// The disk data base, sorted by key as ESXi writes it.
    fn entries(&self) -> Vec<(&'static str, String)> {
        let geometry = ChsGeometry::of(self.adapter, self.length_bytes());
        let long: String = self.long_content_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut entries = vec![
            ("adapterType", self.adapter.as_str().to_owned()),
            ("geometry.cylinders", geometry.cylinders.to_string()),
            ("geometry.heads", geometry.heads.to_string()),
            ("geometry.sectors", geometry.sectors.to_string()),
            ("longContentID", format!("{long}{:08x}", self.content_id)),
        ];
        if self.thin {
            entries.push(("thinProvisioned", "1".into()));
        }
        entries.push(("toolsVersion", "2147483647".into()));
        entries.push(("uuid", self.uuid.clone()));
        entries.push(("virtualHWVersion", "8".into()));
        entries
    }
}
