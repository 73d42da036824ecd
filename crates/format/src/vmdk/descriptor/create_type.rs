//! `createType` and which kinds this product handles: the ones it refuses are refused by name, each with the reason
//! that decides the remedy.

/// What a disk is made of, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateType {
    /// `vmfs` and its older names: a flat file on a datastore.
    Vmfs,
    /// One flat file of a hosted product.
    MonolithicFlat,
    /// Flat files of 2 GiB.
    TwoGbMaxExtentFlat,
    /// One sparse file with this descriptor inside.
    MonolithicSparse,
    /// Sparse files of 2 GiB.
    TwoGbMaxExtentSparse,
    /// Compressed grains in one pass, this descriptor inside.
    StreamOptimized,
    /// A snapshot's delta, by the word found: `vmfsSparse`, `seSparse`, `vsanSparse`.
    Delta(String),
    /// A mapping to something that is not a file here, by the word found: raw device maps, whole or parted devices.
    Mapping(String),
    /// Anything else, by the word found.
    Other(String),
}

/// Whether a kind of disk is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Handled.
    Yes,
    /// A delta: consolidate.
    Delta,
    /// Not a file: hot-add it.
    Mapping,
    /// Unknown.
    Unknown,
}

impl CreateType {
    /// The kind by its word; case does not matter.
    pub fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "vmfs" | "vmfsthin" | "vmfspreallocated" | "vmfseagerzeroedthick" => Self::Vmfs,
            "monolithicflat" => Self::MonolithicFlat,
            "twogbmaxextentflat" => Self::TwoGbMaxExtentFlat,
            "monolithicsparse" => Self::MonolithicSparse,
            "twogbmaxextentsparse" => Self::TwoGbMaxExtentSparse,
            "streamoptimized" => Self::StreamOptimized,
            "vmfssparse" | "sesparse" | "vsansparse" => Self::Delta(word.into()),
            "vmfsrawdevicemap"
            | "vmfsrdm"
            | "vmfspassthroughrawdevicemap"
            | "vmfsrdmp"
            | "vmfsraw"
            | "fulldevice"
            | "partitioneddevice"
            | "monolithicdevice" => Self::Mapping(word.into()),
            _ => Self::Other(word.into()),
        }
    }

    /// The word as it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Vmfs => "vmfs",
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::MonolithicSparse => "monolithicSparse",
            Self::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Self::StreamOptimized => "streamOptimized",
            Self::Delta(word) | Self::Mapping(word) | Self::Other(word) => word,
        }
    }

    /// Whether it is handled, and if not, why.
    pub const fn support(&self) -> Support {
        match self {
            Self::Delta(_) => Support::Delta,
            Self::Mapping(_) => Support::Mapping,
            Self::Other(_) => Support::Unknown,
            _ => Support::Yes,
        }
    }
}
