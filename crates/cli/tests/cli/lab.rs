//! A folder with disks, and the command run inside it, so that every path in a text is a short one.

use failback_testkit::{GeneratedDisk, Random};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

/// The folder; removed with it.
pub(crate) struct Lab(tempfile::TempDir);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A disk with zeros, text and noise in it.
    pub(crate) fn disk(&self, name: &str, seed: u64, length_bytes: u64) {
        self.write(name, &GeneratedDisk::new(seed, length_bytes, 65_536).bytes());
    }

    /// A disk without a zero in it worth the name: every change of it ships as contents.
    pub(crate) fn noise(&self, name: &str, seed: u64, length_bytes: u64) {
        let mut bytes = vec![0; length_bytes as usize];
        Random::new(seed).fill(&mut bytes);
        self.write(name, &bytes);
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the folder can be written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The bytes of a disk with a few of them changed at each offset.
    pub(crate) fn changed(&self, name: &str, offsets: &[usize]) -> Vec<u8> {
        let mut bytes = self.read(name);
        for &offset in offsets {
            let mut noise = [0; 16];
            Random::new(offset as u64).fill(&mut noise);
            bytes[offset..offset + noise.len()].copy_from_slice(&noise);
        }
        bytes
    }

    /// Every file's name, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("the folder can be listed");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("our names are UTF-8");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }

    /// Every file with its bytes and the time of its last change.
    pub(crate) fn state(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let entries = fs::read_dir(self.0.path()).expect("the folder can be listed");
        let state = |path: PathBuf| {
            let changed = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
            (path.clone(), (fs::read(&path).expect("a file"), changed))
        };
        entries.map(|entry| state(entry.expect("an entry").path())).collect()
    }

    /// The command, not yet started.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failback"));
        command.args(words).current_dir(self.0.path()).stdin(Stdio::null());
        // The width of help and what colours it must not depend on who runs the tests.
        command.env_remove("COLUMNS").env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output().expect("failback starts").into()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ended {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn text(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Checks the exit code, and that standard output is one JSON object on one line.
    #[track_caller]
    pub(crate) fn json(self, code: i32) -> Value {
        let ended = self.text(code);
        assert_eq!(ended.stdout.matches('\n').count(), 1, "one line: {ended:?}");
        let value: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert!(value.is_object(), "{value}");
        value
    }
}
