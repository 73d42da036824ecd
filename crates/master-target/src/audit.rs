//! The audit log: who had which disks changed by hand, and what became of it. One JSON object a line, `audit.log` in the
//! state folder; docs/security.md shows one.
//!
//! **Invariant**: a line is durable before what it announces begins, and lines are only ever appended: nothing here
//! rotates, shortens or reads the file.

use failback_model::{Code, Finding};
use failback_service::clock::unix_ms;
use failback_service::event::Caller;
use failback_service::report::FindingLine;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The file.
pub(crate) struct Audit {
    path: PathBuf,
    writing: Mutex<()>,
}

/// What stands in every line about one verb.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Deed {
    /// `cutover`, `cancel`, `commit` or `drop_points`.
    pub(crate) verb: &'static str,
    pub(crate) machine: String,
    pub(crate) job: String,
    /// Who asked, as the socket knows it.
    #[serde(flatten)]
    pub(crate) caller: Caller,
    pub(crate) direction: String,
    pub(crate) point: Option<u64>,
    pub(crate) destroyed: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    time_unix_ms: u64,
    /// `begins`, `done` or `failed`.
    state: &'static str,
    #[serde(flatten)]
    deed: &'a Deed,
    outcome: &'a str,
    findings: &'a [FindingLine],
}

impl Audit {
    /// The log of this name.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, writing: Mutex::default() }
    }

    /// Says, durably, what is about to be done. Without it nothing may be.
    pub(crate) fn begins(&self, deed: &Deed) -> Result<(), Finding> {
        self.append(deed, "begins", "", &[]).map_err(|error| {
            let evidence = format!("cannot write {}: {error}", self.path.display());
            Finding::error(Code::AuditFailed, evidence).about(&self.path)
        })
    }

    /// Says what became of it. What was done is done: one that cannot be written goes to the daemon's log.
    pub(crate) fn ended(&self, deed: &Deed, outcome: &Result<String, Vec<FindingLine>>) {
        let written = match outcome {
            Ok(said) => self.append(deed, "done", said, &[]),
            Err(findings) => self.append(deed, "failed", "", findings),
        };
        if let Err(error) = written {
            let Deed { verb, machine, job, .. } = deed;
            tracing::error!("{machine}: the end of {verb} {job} is not in {}: {error}", self.path.display());
        }
    }

    fn append(
        &self,
        deed: &Deed,
        state: &'static str,
        outcome: &str,
        findings: &[FindingLine],
    ) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).clone();
        let mut file = options.open(&self.path)?;
        let line = Line { time_unix_ms: unix_ms(), state, deed, outcome, findings };
        let mut text = if ends_whole(&mut file)? { Vec::new() } else { vec![b'\n'] };
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        failback_service::saved::sync_folder(&self.path)
    }
}

/// Whether the last line was not torn by a crash: what was torn stays, and nothing is written into it.
fn ends_whole(file: &mut File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    Ok(last == [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn deed() -> Deed {
        Deed {
            verb: "cutover",
            machine: "web01".into(),
            job: "job-1".into(),
            caller: Caller { uid: 0, gid: 0, pid: Some(7) },
            direction: "point 3 -> point 2".into(),
            point: Some(2),
            destroyed: vec!["nothing".into()],
        }
    }

    #[test]
    fn lines_are_appended_whatever_stands_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let audit = Audit::new(path.clone());
        audit.begins(&deed()).expect("written");
        let torn = fs::read(&path).expect("read");
        fs::write(&path, &torn[..torn.len() - 2]).expect("torn by a crash");
        audit.ended(&deed(), &Ok("released".into()));
        audit.ended(&deed(), &Err(vec![(&Finding::error(Code::ReadFailed, "x")).into()]));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let value: Value = serde_json::from_str(lines[1]).expect("whole");
        assert_eq!((&value["state"], &value["outcome"]), (&"done".into(), &"released".into()));
        assert_eq!((&value["uid"], &value["pid"], &value["point"]), (&0.into(), &7.into(), &2.into()));
        let value: Value = serde_json::from_str(lines[2]).expect("whole");
        assert_eq!(value["findings"][0]["code"], "FB202");
    }

    #[test]
    fn where_no_line_can_be_written_nothing_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = Audit::new(folder.path().join("absent/audit.log"));
        assert_eq!(audit.begins(&deed()).expect_err("no folder").code, Code::AuditFailed);
    }
}
