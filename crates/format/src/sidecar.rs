//! Sidecars: what whoever rebuilds a site has to know of a disk, beside the disk. FORMATS.md, "Sidecar".
//!
//! It is a note for people and for a master target that starts from nothing: nothing that is written to a disk depends on
//! it, and the journal is what counts.

use crate::{FormatError, text};
use failback_model::limits::SIDECAR_MAX_BYTES;
use failback_model::{Digest, DiskId, MachineId, PointLabel};
use serde::{Deserialize, Serialize};

/// Version of the file.
pub const SIDECAR_VERSION: u32 = 1;
/// What stands behind the image's own name.
pub const SIDECAR_SUFFIX: &str = ".failback.json";

/// A recovery point as it concerns one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarPoint {
    /// Its number; 0: the original.
    pub number: u64,
    /// What it is worth.
    #[serde(with = "label")]
    pub label: PointLabel,
    /// When the source was in that state, milliseconds since 1970.
    pub source_unix_ms: u64,
    /// When it was sealed.
    pub sealed_unix_ms: u64,
    /// The point that it was made from by going back to that one.
    pub restored: Option<u64>,
    /// Number of the disk's state.
    pub generation: u64,
    /// Root of the disk's state; none: of the original.
    #[serde(with = "text::optional_digest")]
    pub root: Option<Digest>,
    /// Length of the disk's state.
    pub length_bytes: u64,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// [`SIDECAR_VERSION`].
    pub failback_sidecar: u32,
    /// Whose disk.
    #[serde(with = "text::word")]
    pub machine: MachineId,
    /// Which.
    #[serde(with = "text::word")]
    pub disk: DiskId,
    /// The image, as the master target's configuration names it.
    pub image: String,
    /// Its format, as `failback image info` names it.
    pub format: String,
    /// Its id, as its format writes it.
    pub uuid: Option<String>,
    /// Where it hangs on its machine, where that is configured.
    pub slot: Option<String>,
    /// How it takes space.
    pub provisioning: String,
    /// Length of the image's disk.
    pub image_bytes: u64,
    /// When this was written, milliseconds since 1970.
    pub written_unix_ms: u64,
    /// Where the machine stands: `replicating`, `released`, `cancelled`, `committed`.
    pub phase: String,
    /// The points that can be had back, oldest first; the last one is what the disk holds between passes.
    pub points: Vec<SidecarPoint>,
}

impl Sidecar {
    /// The file's text.
    pub fn encode(&self) -> String {
        serde_json::to_string_pretty(self).expect("fields have string keys") + "\n"
    }

    /// Reads a file's text.
    pub fn decode(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() as u64 > SIDECAR_MAX_BYTES {
            return Err(FormatError::new(SIDECAR_MAX_BYTES, "longer than any sidecar"));
        }
        let sidecar: Self = serde_json::from_slice(file)
            .map_err(|error| FormatError::new(0, format!("no sidecar: {error}")))?;
        match sidecar.failback_sidecar {
            SIDECAR_VERSION => Ok(sidecar),
            other => Err(FormatError::new(0, format!("version {other}, and {SIDECAR_VERSION} is known"))),
        }
    }
}

mod label {
    use failback_model::PointLabel;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(label: &PointLabel, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(label.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PointLabel, D::Error> {
        let word = String::deserialize(from)?;
        PointLabel::parse(&word).ok_or_else(|| D::Error::custom(format!("{word:?} is no label")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("sidecar/golden.json");

    fn sidecar() -> Sidecar {
        Sidecar {
            failback_sidecar: SIDECAR_VERSION,
            machine: "web01".parse().expect("an id"),
            disk: "disk0".parse().expect("an id"),
            image: "/mnt/nfs/web01/web01.vmdk".into(),
            format: "vmfs".into(),
            uuid: Some("60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc".into()),
            slot: Some("scsi0:1".into()),
            provisioning: "thin".into(),
            image_bytes: 2_097_152,
            written_unix_ms: 1_795_507_200_250,
            phase: "replicating".into(),
            points: vec![
                SidecarPoint {
                    number: 0,
                    label: PointLabel::PerDisk,
                    source_unix_ms: 0,
                    sealed_unix_ms: 1_795_507_100_000,
                    restored: None,
                    generation: 0,
                    root: None,
                    length_bytes: 2_097_152,
                },
                SidecarPoint {
                    number: 1,
                    label: PointLabel::CrashConsistent,
                    source_unix_ms: 1_795_507_110_000,
                    sealed_unix_ms: 1_795_507_200_000,
                    restored: None,
                    generation: 1,
                    root: Some(Digest([0xc4; 32])),
                    length_bytes: 1_052_672,
                },
            ],
        }
    }

    #[test]
    fn the_file_is_as_it_was_defined() {
        assert_eq!(sidecar().encode(), GOLDEN);
        assert_eq!(Sidecar::decode(GOLDEN.as_bytes()), Ok(sidecar()));
    }

    #[test]
    fn what_is_no_sidecar_is_refused() {
        let newer = GOLDEN.replace("\"failback_sidecar\": 1", "\"failback_sidecar\": 2");
        let label = GOLDEN.replace("crash-consistent", "consistent");
        for text in ["", "{}", &newer, &label, &GOLDEN[..GOLDEN.len() / 2]] {
            assert!(Sidecar::decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
