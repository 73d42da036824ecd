//! Extended attributes of a file that is replaced by a new one: access control lists, labels, what users put there.
//!
//! **Invariant**: an aid only. What cannot be read or kept (a file system without them, a right that is missing) is left
//! out; owner and mode, without which the file could not be used any more, are not in here.

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use std::fs::File;

/// The most that Linux lets all names, or one value, take.
const ATTRIBUTE_MAX_BYTES: usize = 64 << 10;

/// Gives `to` the extended attributes of `from`.
pub(super) fn copy(from: &File, to: &File) {
    let mut names = vec![0; ATTRIBUTE_MAX_BYTES];
    let Ok(length) = flistxattr(from, &mut names[..]) else { return };
    let mut value = vec![0; ATTRIBUTE_MAX_BYTES];
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(length) = fgetxattr(from, name, &mut value[..]) {
            // Labels of a security module are its own to give.
            let _kept = fsetxattr(to, name, &value[..length], XattrFlags::empty());
        }
    }
}
