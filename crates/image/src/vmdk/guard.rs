//! What must not be true of a disk before it is opened: that a delta hangs on it.
//!
//! **Invariant**: a guard reads names and descriptors only, never the content of an extent: what a guest wrote into
//! its own disk cannot lock another one.

use super::folder::Folder;
use failback_blockio::{DiskError, Operation};
use failback_format::vmdk::descriptor::Descriptor;
use failback_model::Code;
use failback_model::limits::DESCRIPTOR_MAX_BYTES;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

const SECTOR_BYTES: u64 = 512;
/// First bytes of a hosted sparse file, which may hold a delta's descriptor.
const SPARSE_MAGIC: &[u8] = b"KDMV";
/// Where such a file's header says at which sector its descriptor lies, and how many sectors it takes.
const EMBEDDED_AT: std::ops::Range<usize> = 28..44;
/// How the files end that hold a guest's bytes or a map of them, never a descriptor.
const DATA_SUFFIXES: [&[u8]; 6] =
    [b"-flat.vmdk", b"-delta.vmdk", b"-sesparse.vmdk", b"-ctk.vmdk", b"-rdm.vmdk", b"-rdmp.vmdk"];

/// Refuses to write to a disk that a delta in the same folder names as its parent.
pub(crate) fn refuse_parent(folder: &Folder, own_name: &OsStr, own: &Descriptor) -> Result<(), DiskError> {
    let names = folder.names()?;
    for name in &names {
        if name == own_name || !may_hold_descriptor(name) {
            continue;
        }
        let Some(other) = descriptor_of(folder, name) else { continue };
        if is_child(&other, own, own_name, &names) {
            let reason = format!("{} is a delta over it", folder.path_of(name).display());
            let path = folder.path_of(own_name);
            return Err(DiskError::new(Code::ImageHasChild, Operation::Open, &path, reason));
        }
    }
    Ok(())
}

fn may_hold_descriptor(name: &OsStr) -> bool {
    let name = name.as_bytes().to_ascii_lowercase();
    name.ends_with(b".vmdk") && !DATA_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) && !is_split(&name)
}

/// Whether a name ends as `-f001.vmdk` or `-s001.vmdk`.
fn is_split(name: &[u8]) -> bool {
    let stem = name.strip_suffix(b".vmdk").unwrap_or(name);
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let head = &stem[..stem.len() - digits];
    digits >= 3 && (head.ends_with(b"-f") || head.ends_with(b"-s"))
}

/// The descriptor in a sibling; what cannot be read or is none names no parent.
fn descriptor_of(folder: &Folder, name: &OsStr) -> Option<Descriptor> {
    let file = folder.open(name, false).ok()?;
    let mut head = [0; SECTOR_BYTES as usize];
    let count = file.read_at(&mut head, 0).ok()?;
    let head = &head[..count];
    if Descriptor::is_signature(head) {
        let bytes = folder.read_small(name, &file).ok()??;
        return Descriptor::parse(&bytes).ok();
    }
    if !head.starts_with(SPARSE_MAGIC) {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let (start, sectors) = (number(EMBEDDED_AT.start)?, number(EMBEDDED_AT.start + 8)?);
    let length = sectors.checked_mul(SECTOR_BYTES).filter(|&length| length <= DESCRIPTOR_MAX_BYTES as u64)?;
    let mut bytes = Vec::new();
    let mut at = &file;
    std::io::Seek::seek(&mut at, std::io::SeekFrom::Start(start.checked_mul(SECTOR_BYTES)?)).ok()?;
    at.take(length).read_to_end(&mut bytes).ok()?;
    Descriptor::parse(&bytes).ok()
}

/// Whether `other` hangs on the disk `own` called `own_name`.
fn is_child(other: &Descriptor, own: &Descriptor, own_name: &OsStr, names: &[OsString]) -> bool {
    let same_id = other.parent_content_id() == Some(own.content_id());
    let Some(hint) = other.parent_hint() else { return same_id };
    let (folder_hint, base) = match hint.iter().rposition(|&byte| byte == b'/' || byte == b'\\') {
        Some(at) => (Some(&hint[..at]), &hint[at + 1..]),
        None => (None, hint),
    };
    if base == own_name.as_bytes() {
        // A name alone means this folder. With a folder, which this host may know by another path, the id decides.
        return folder_hint.is_none_or(|path| path == b".") || same_id;
    }
    // The parent was renamed: unless what it names lies here, the id decides.
    same_id && !names.iter().any(|name| name.as_bytes() == base)
}
