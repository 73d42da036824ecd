//! What must not be true of a disk before it is opened: that a delta hangs on it.
//!
//! **Invariant**: a guard reads names and descriptors only, never the content of an extent: what a guest wrote into
//! its own disk cannot lock another one.

use super::folder::Folder;
use failback_blockio::{DiskError, Operation};
use failback_format::vmdk::descriptor::Descriptor;
use failback_format::vmdk::sparse::{HEADER_BYTES, SparseHeader};
use failback_model::Code;
use failback_model::limits::DESCRIPTOR_MAX_BYTES;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

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
        let Some(text) = text_of(folder, name) else { continue };
        let hangs_on_it = match Descriptor::parse(&text) {
            Ok(other) => is_child(&other, own, own_name, &names),
            // A version of tomorrow, or damage: what still names this disk counts.
            Err(_) => hints_at(&text, own_name),
        };
        if hangs_on_it {
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

/// The descriptor's text in a sibling; what cannot be read or holds none names no parent.
fn text_of(folder: &Folder, name: &OsStr) -> Option<Vec<u8>> {
    let file = folder.open(name, false).ok()?;
    let mut head = [0; HEADER_BYTES];
    let count = file.read_at(&mut head, 0).ok()?;
    let head = &head[..count];
    if Descriptor::is_signature(head) {
        return folder.read_small(name, &file).ok()?;
    }
    let header = SparseHeader::parse(head.try_into().ok()?, 0).ok()?;
    let room = header.descriptor_range().filter(|room| room.length_bytes() <= DESCRIPTOR_MAX_BYTES as u64)?;
    let mut bytes = vec![0; room.length_bytes() as usize];
    file.read_exact_at(&mut bytes, room.start()).ok()?;
    Some(bytes)
}

/// Whether a text that is no descriptor we know has a hint at `own_name`.
fn hints_at(text: &[u8], own_name: &OsStr) -> bool {
    const KEY: &[u8] = b"parentfilenamehint";
    let own_name = own_name.as_bytes();
    text.split(|&byte| byte == b'\n').any(|line| {
        let is_hint = line.get(..KEY.len()).is_some_and(|key| key.eq_ignore_ascii_case(KEY));
        is_hint && line.windows(own_name.len()).any(|window| window == own_name)
    })
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
