//! Parts of documents that are made from code: compared by tests, and written anew where asked.
//!
//! A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. With the environment variable UPDATE_DOCS set, a
//! test that finds another text writes the right one and passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Parts of one document are written by tests that run side by side.
static TURN: Mutex<()> = Mutex::new(());

/// The root of the repository, from a crate's own folder.
pub fn repository(manifest_dir: &str) -> PathBuf {
    let folders = Path::new(manifest_dir).ancestors();
    let mut roots = folders.filter(|folder| folder.join("ARCHITECTURE.md").exists());
    roots.next().expect("a crate lies in the repository").to_path_buf()
}

/// Checks that a part of a document is this text.
#[track_caller]
pub fn assert_part(document: &Path, name: &str, text: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let whole =
        fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    let (before, rest) =
        whole.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in {}", document.display()));
    let (part, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end} in {}", document.display()));
    let wanted = format!("\n{}\n\n", text.trim());
    if part == wanted {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCS").is_some(),
        "{}: the part {name} is not what the code says; run this test with UPDATE_DOCS=1",
        document.display()
    );
    fs::write(document, format!("{before}{begin}{wanted}{end}{after}")).expect("it can be written");
}
