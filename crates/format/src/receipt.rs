//! Receipts: what a target's disks were when they were read back from their medium, signed. FORMATS.md, "Receipt".
//!
//! The payload is a JSON text in a string field, so the signed bytes are there as they are and nobody has to agree on how
//! JSON is written. Who signs and who verifies is above this floor.
//!
//! **Invariant**: what decodes is byte for byte what its own fields encode to, so no byte of a receipt can be changed
//! without being refused here or by the signature.

#[cfg(test)]
mod tests;

use crate::{FormatError, text};
use failback_model::limits::{DISKS_PER_MACHINE_MAX, RECEIPT_IMAGE_MAX_BYTES, RECEIPT_MAX_BYTES};
use failback_model::{BlockSize, Digest, DiskId, Layout, MachineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of the file, of the payload and of what the signature covers.
pub const RECEIPT_VERSION: u32 = 2;
/// How it is signed.
pub const RECEIPT_ALGORITHM: &str = "ed25519";
/// What stands before the payload in the signed bytes: a signature of anything else is none of a receipt.
const CONTEXT: &[u8] = b"failback receipt 2\0";
/// Longest version of a product, and longest name of a format.
const WORD_MAX_BYTES: usize = 64;

/// How a disk was read; a weaker way proves less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptRead {
    /// Past the page cache.
    Direct,
    /// Through the page cache, which held nothing of it before.
    CacheDropped,
    /// Perhaps out of the page cache: this file system neither lets go of it nor reads past it.
    Cached,
}

impl ReceiptRead {
    /// The word in the receipt.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::CacheDropped => "cache-dropped",
            Self::Cached => "cached",
        }
    }
}

/// One disk of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptDisk {
    /// Its id.
    #[serde(with = "text::word")]
    pub id: DiskId,
    /// Its image, as the master target's configuration names it.
    pub image: String,
    /// The image's format, as `failback image info` names it.
    pub format: String,
    /// Length of the image's disk, bytes.
    pub image_bytes: u64,
    /// Length of the sealed state, which the root covers, bytes: an image that is longer keeps its tail.
    pub length_bytes: u64,
    /// Unit of the digests, bytes.
    pub block_size_bytes: u64,
    /// Number of the sealed state.
    pub generation: u64,
    /// Number of the job that sealed it.
    pub epoch: u64,
    /// Root of what was read.
    #[serde(with = "text::digest")]
    pub root: Digest,
    /// Bytes that were read; holes are not.
    pub bytes_read: u64,
    /// How they were read.
    pub read: ReceiptRead,
    /// When reading began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When it ended.
    pub finished_unix_ms: u64,
}

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub version: u32,
    /// Whose disks.
    #[serde(with = "text::word")]
    pub machine: MachineId,
    /// Number of the machine's receipt, from 1.
    pub number: u64,
    /// Digest of the file of the receipt before it; none of the first.
    #[serde(with = "text::optional_digest")]
    pub previous: Option<Digest>,
    /// The recovery point that the disks are at; none where the journal has no point of exactly these states.
    pub point: Option<u64>,
    /// When it was made, milliseconds since 1970.
    pub issued_unix_ms: u64,
    /// Version of the master target.
    pub product_version: String,
    /// All disks of the machine.
    pub disks: Vec<ReceiptDisk>,
}

impl Receipt {
    /// The JSON text that is signed.
    pub fn payload(&self) -> String {
        serde_json::to_string(self).expect("fields have string keys and whole numbers")
    }

    /// Why these fields are none of a receipt.
    pub fn check(&self) -> Result<(), FormatError> {
        let fault = |reason: String| Err(FormatError::new(0, reason));
        if self.version != RECEIPT_VERSION {
            return fault(format!("payload of version {}, and {RECEIPT_VERSION} is known", self.version));
        }
        if self.number == 0 || (self.number == 1) != self.previous.is_none() {
            return fault(format!("receipt {} with a wrong link to the one before it", self.number));
        }
        if self.disks.is_empty() || self.disks.len() > DISKS_PER_MACHINE_MAX {
            return fault(format!(
                "{} disks, and it may have 1 to {DISKS_PER_MACHINE_MAX}",
                self.disks.len()
            ));
        }
        if self.product_version.len() > WORD_MAX_BYTES {
            return fault("a product version that is too long".into());
        }
        let mut ids = BTreeSet::new();
        self.disks.iter().try_for_each(|disk| {
            if !ids.insert(&disk.id) {
                return fault(format!("disk {} twice", disk.id));
            }
            disk.check().or_else(|reason| fault(format!("disk {}: {reason}", disk.id)))
        })
    }
}

impl ReceiptDisk {
    /// The layout that its root is of.
    pub fn layout(&self) -> Result<Layout, FormatError> {
        let size = BlockSize::new(self.block_size_bytes);
        let size = size.map_err(|error| FormatError::new(0, error.to_string()))?;
        Layout::new(self.length_bytes, size).map_err(|error| FormatError::new(0, error.to_string()))
    }

    fn check(&self) -> Result<(), String> {
        self.layout().map_err(|error| error.reason)?;
        if self.image_bytes < self.length_bytes {
            return Err("its image is shorter than its state".into());
        }
        if self.image.len() > RECEIPT_IMAGE_MAX_BYTES || self.format.len() > WORD_MAX_BYTES {
            return Err("a name that is too long".into());
        }
        Ok(())
    }
}

/// A receipt with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// The key that signed it, or that it claims to be signed by.
    pub public_key: [u8; 32],
    /// What was signed.
    pub payload: String,
    /// The signature over [`signed_bytes`] of the payload.
    pub signature: [u8; 64],
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    failback_receipt: u32,
    algorithm: String,
    #[serde(with = "text::bytes")]
    public_key: [u8; 32],
    #[serde(with = "text::digest")]
    key_fingerprint: Digest,
    payload: String,
    #[serde(with = "text::bytes")]
    signature: [u8; 64],
}

/// What a reader must know before it can judge the rest.
#[derive(Deserialize)]
struct Head {
    failback_receipt: u32,
    algorithm: String,
}

impl SignedReceipt {
    /// The file.
    pub fn encode(&self) -> String {
        let envelope = Envelope {
            failback_receipt: RECEIPT_VERSION,
            algorithm: RECEIPT_ALGORITHM.into(),
            public_key: self.public_key,
            key_fingerprint: fingerprint(&self.public_key),
            payload: self.payload.clone(),
            signature: self.signature,
        };
        serde_json::to_string_pretty(&envelope).expect("fields have string keys") + "\n"
    }

    /// Reads a file. The signature is not looked at: whoever trusts the receipt verifies it first.
    pub fn decode(file: &[u8]) -> Result<(Self, Receipt), FormatError> {
        if file.len() as u64 > RECEIPT_MAX_BYTES {
            return Err(FormatError::new(RECEIPT_MAX_BYTES, "longer than any receipt"));
        }
        let foreign = |error: serde_json::Error| FormatError::new(0, format!("no receipt: {error}"));
        let head: Head = serde_json::from_slice(file).map_err(foreign)?;
        if (head.failback_receipt, head.algorithm.as_str()) != (RECEIPT_VERSION, RECEIPT_ALGORITHM) {
            let (version, algorithm) = (head.failback_receipt, head.algorithm.escape_default());
            let reason = format!(
                "version {version} signed with {algorithm}, and {RECEIPT_VERSION} with {RECEIPT_ALGORITHM} is known"
            );
            return Err(FormatError::new(0, reason));
        }
        let envelope: Envelope = serde_json::from_slice(file).map_err(foreign)?;
        let signed = Self {
            public_key: envelope.public_key,
            payload: envelope.payload,
            signature: envelope.signature,
        };
        let written = signed.encode();
        if written.as_bytes() != file {
            let same = written.bytes().zip(file).take_while(|(ours, theirs)| ours == *theirs).count();
            return Err(FormatError::new(same as u64, "not as it was written: something changed it"));
        }
        let receipt: Receipt = serde_json::from_str(&signed.payload).map_err(foreign)?;
        receipt.check()?;
        if receipt.payload() != signed.payload {
            return Err(FormatError::new(0, "a payload that no master target writes"));
        }
        Ok((signed, receipt))
    }
}

/// The bytes that a signature covers.
pub fn signed_bytes(payload: &str) -> Vec<u8> {
    [CONTEXT, payload.as_bytes()].concat()
}

/// The name of a key that people compare: BLAKE3-256 of its 32 bytes.
pub fn fingerprint(public_key: &[u8; 32]) -> Digest {
    Digest(*blake3::hash(public_key).as_bytes())
}

/// What the next receipt names this file by: BLAKE3-256 of all of it.
pub fn file_digest(file: &[u8]) -> Digest {
    Digest(*blake3::hash(file).as_bytes())
}

/// A digest as people and receipts write it: 64 hexadecimal digits, small letters.
pub fn parse_digest(text: &str) -> Option<Digest> {
    text::from_hex(text).map(Digest)
}
