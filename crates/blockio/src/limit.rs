//! What this process may have open, and what it leaves behind when it breaks off.
//!
//! A split disk is opened whole: up to thousands of files, each locked until the pass ends. The limit that a shell gives
//! (usually 1024) is only a default; the hard one is what the host allows.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Raises the limit of open files to the most that this process may give itself. Called once at the start of a program;
/// where it fails, opening too many files fails later and says so.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What it was still serves every disk of few files.
        let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

/// Leaves no core file of this process, and lets no other user's process look into it: its memory holds bytes of disks
/// and keys. Called once at the start of a program.
pub fn forbid_core_dumps() {
    // A system that refuses either has rules of its own.
    let _without_file = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _closed = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
