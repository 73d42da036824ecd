//! How many files this process may have open.
//!
//! A split disk is opened whole: up to thousands of files, each locked until the pass ends. The limit that a shell gives
//! (usually 1024) is only a default; the hard one is what the host allows.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the most that this process may give itself. Called once at the start of a program;
/// where it fails, opening too many files fails later and says so.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What it was still serves every disk of few files.
        let _raised =
            setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    }
}
