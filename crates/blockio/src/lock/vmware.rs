//! Lock files of VMware products: hosted ones keep a folder `NAME.lck` beside a disk, ESXi keeps files
//! `.lck-FILEID` beside the files it has open over NFS, named by the file's number in little-endian hexadecimal.
//!
//! **Invariant**: a lock file of the disk's folder that cannot be attributed to another file there counts as the
//! disk's: refusing a stale one costs a look, writing under a running machine costs the disk.

use crate::FileId;
use crate::new_files::folder_of;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock file that says a disk is in use.
pub(super) fn lock_file_of(path: &Path, id: FileId) -> Option<PathBuf> {
    let mut folder_lock = path.file_name()?.to_os_string();
    folder_lock.push(".lck");
    let folder_lock = folder_of(path).join(folder_lock);
    if is_held(&folder_lock) {
        return Some(folder_lock);
    }
    let FileId::File { inode, .. } = id else { return None };
    let entries: Vec<_> = fs::read_dir(folder_of(path)).ok()?.flatten().collect();
    let locks = entries.iter().filter_map(|entry| {
        let name = entry.file_name();
        let file_number = name.to_str()?.strip_prefix(".lck-")?;
        Some((entry.path(), file_number.to_ascii_lowercase()))
    });
    for (lock, file_number) in locks {
        let is_of = |inode: u64| file_number == format!("{:016x}", inode.swap_bytes());
        let is_others = || {
            entries
                .iter()
                .filter_map(|entry| entry.metadata().ok())
                .any(|metadata| metadata.ino() != inode && is_of(metadata.ino()))
        };
        if is_of(inode) || !is_others() {
            return Some(lock);
        }
    }
    None
}

/// Hosted products fill the folder with files of its members; an empty one is a leftover. A plain file of that name
/// is an older product's lock.
fn is_held(lock: &Path) -> bool {
    match fs::read_dir(lock) {
        Ok(mut entries) => entries.any(|entry| entry.is_ok_and(|entry| ends_in_lck(&entry.path()))),
        Err(_) => lock.is_file(),
    }
}

fn ends_in_lck(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lck")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(folder: &Path, name: &str) -> (PathBuf, FileId, u64) {
        let path = folder.join(name);
        fs::write(&path, b"x").expect("written");
        let metadata = fs::metadata(&path).expect("its number");
        let id = FileId::File { filesystem: metadata.dev(), inode: metadata.ino() };
        (path, id, metadata.ino())
    }

    #[test]
    fn a_hosted_products_folder_locks_its_own_disk_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, id, _) = file_in(folder.path(), "disk.vmdk");
        let (other, other_id, _) = file_in(folder.path(), "other.vmdk");
        let lock = folder.path().join("disk.vmdk.lck");
        fs::create_dir(&lock).expect("made");
        assert_eq!(lock_file_of(&disk, id), None, "an empty folder is a leftover");
        fs::write(lock.join("M12345.lck"), b"").expect("written");
        assert_eq!(lock_file_of(&disk, id), Some(lock));
        assert_eq!(lock_file_of(&other, other_id), None);
    }

    #[test]
    fn an_esxi_lock_counts_unless_it_is_another_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, id, inode) = file_in(folder.path(), "disk-flat.vmdk");
        let (_, _, other_inode) = file_in(folder.path(), "other-flat.vmdk");
        let lock_of = |number: u64| folder.path().join(format!(".lck-{:016x}", number.swap_bytes()));
        fs::write(lock_of(other_inode), b"").expect("written");
        assert_eq!(lock_file_of(&disk, id), None);
        fs::write(lock_of(inode), b"").expect("written");
        assert_eq!(lock_file_of(&disk, id), Some(lock_of(inode)));
        fs::remove_file(lock_of(inode)).expect("removed");
        let unknown = folder.path().join(".lck-3409000000000000");
        fs::write(&unknown, b"").expect("written");
        assert_eq!(lock_file_of(&disk, id), Some(unknown));
    }
}
