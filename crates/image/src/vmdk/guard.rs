//! What must not be true of a disk before it is written: that a delta hangs on it.
//!
//! **Invariant**: a sibling that might be a delta's descriptor and cannot be read or understood counts as a delta: a
//! refusal costs a look, a write under a snapshot costs the snapshot. What is read is names and descriptors, never the
//! content of an extent: what a guest wrote into its own disk cannot lock another one.

use super::folder::Folder;
use super::open::file_name;
use failback_blockio::{DiskError, Operation};
use failback_format::vmdk::descriptor::Descriptor;
use failback_format::vmdk::sparse::{HEADER_BYTES, SparseHeader};
use failback_model::Code;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// First bytes of a hosted sparse file.
const SPARSE_MAGIC: &[u8] = b"KDMV";
/// How the files end that hold a guest's bytes or a map of them, never a descriptor.
const DATA_SUFFIXES: [&[u8]; 6] =
    [b"-flat.vmdk", b"-delta.vmdk", b"-sesparse.vmdk", b"-ctk.vmdk", b"-rdm.vmdk", b"-rdmp.vmdk"];

/// Refuses to write to a disk that a delta in the same folder names, or may name, as its parent.
pub(crate) fn refuse_parent(folder: &Folder, own_name: &OsStr, own: &Descriptor) -> Result<(), DiskError> {
    let names = folder.names()?;
    let own_extents: Vec<OsString> = own.extents().iter().map(file_name).collect();
    for name in &names {
        // Extents of foreign disks may be called anything; the disk's own are its guest's bytes.
        if name == own_name || !may_hold_descriptor(name) || own_extents.contains(name) {
            continue;
        }
        let verdict = match text_of(folder, name) {
            Ok(None) => continue,
            Ok(Some(text)) => match Descriptor::parse(&text) {
                Ok(other) if !is_child(&other, own, own_name, &names) => continue,
                Ok(_) => "is a delta over it".to_owned(),
                // A version of tomorrow, or damage.
                Err(error) => format!("may be a delta over it, its descriptor is not understood: {error}"),
            },
            Err(why) => format!("may be a delta over it and cannot be looked at: {why}"),
        };
        let reason = format!("{} {verdict}", folder.path_of(name).display());
        let path = folder.path_of(own_name);
        return Err(DiskError::new(Code::ImageHasChild, Operation::Open, &path, reason));
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

/// The descriptor's text in a sibling; `None` where the sibling is gone by now, or was read and holds none. Else why it
/// cannot be told.
fn text_of(folder: &Folder, name: &OsStr) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = folder.open_to_look(name)? else { return Ok(None) };
    let failed = |error: std::io::Error| error.to_string();
    let mut head = [0; HEADER_BYTES];
    let mut count = 0;
    while count < head.len() {
        match file.read_at(&mut head[count..], count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let head = &head[..count];
    if Descriptor::is_signature(head) {
        let text = folder.read_small(name, &file).map_err(|error| error.to_string())?;
        return text.map(Some).ok_or_else(|| "it is too long for a VMDK descriptor".into());
    }
    if !head.starts_with(SPARSE_MAGIC) {
        return Ok(None);
    }
    let header = head.try_into().map_err(|_| "its sparse header was cut short".to_owned())?;
    let header = SparseHeader::parse(header, 0).map_err(|error| error.to_string())?;
    let room = match header.descriptor_range() {
        // Bounded by the header's codec.
        Some(room) => room,
        // An extent of a disk that has its descriptor elsewhere.
        None if header.descriptor_sector == 0 || header.descriptor_sectors == 0 => return Ok(None),
        None => return Err("its descriptor lies past the end of any file".into()),
    };
    let mut bytes = vec![0; room.length_bytes() as usize];
    file.read_exact_at(&mut bytes, room.start()).map_err(failed)?;
    Ok(Some(bytes))
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
