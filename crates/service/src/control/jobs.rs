//! Outcomes of jobs, kept so that a job asked for twice is done once, also across a restart.
//!
//! A file of one JSON object a line, appended to; written anew when it holds twice what is kept.
//!
//! **Invariant**: an outcome is durable before it is told.

use super::protocol::{Reply, Request};
use crate::saved::{self, failed};
use failback_model::limits::JOBS_KEPT;
use failback_model::{Finding, JobId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// One job.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

/// The jobs, oldest first.
pub(super) struct Jobs {
    path: PathBuf,
    file: File,
    kept: VecDeque<Job>,
    lines: usize,
}

impl Jobs {
    /// Reads what an earlier run left; a last line that was torn is as if its job had never been asked for.
    pub(super) fn open(path: &Path) -> Result<Self, Finding> {
        let bytes = saved::read(path)?.unwrap_or_default();
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let mut kept = VecDeque::new();
        for line in bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let job: Job = serde_json::from_slice(line).map_err(|error| {
                failed("understand", path, error)
                    .with_remedy("remove it: outcomes of old jobs are forgotten then")
            })?;
            kept.push_back(job);
        }
        let excess = kept.len().saturating_sub(JOBS_KEPT);
        kept.drain(..excess);
        let file = write_anew(path, &kept).map_err(|error| failed("write", path, error))?;
        let lines = kept.len();
        Ok(Self { path: path.to_owned(), file, kept, lines })
    }

    /// An earlier job of this id.
    pub(super) fn find(&self, id: &JobId) -> Option<&Job> {
        self.kept.iter().rev().find(|job| job.request.job() == Some(id))
    }

    /// Keeps an outcome.
    pub(super) fn keep(&mut self, job: Job) -> Result<(), Finding> {
        let line = line_of(&job);
        self.kept.push_back(job);
        if self.kept.len() > JOBS_KEPT {
            self.kept.pop_front();
        }
        self.lines += 1;
        let written = if self.lines > 2 * JOBS_KEPT {
            self.lines = self.kept.len();
            write_anew(&self.path, &self.kept).map(|file| self.file = file)
        } else {
            self.file.write_all(&line).and_then(|()| self.file.sync_data())
        };
        written.map_err(|error| failed("write", &self.path, error))
    }
}

fn line_of(job: &Job) -> Vec<u8> {
    let mut line = serde_json::to_vec(job).expect("requests and replies have string keys");
    line.push(b'\n');
    line
}

/// Writes all jobs under a draft name and puts it in place; gives the file, at its end.
fn write_anew(path: &Path, jobs: &VecDeque<Job>) -> io::Result<File> {
    let draft = path.with_extension("draft");
    let mut file = saved::private().create(true).truncate(true).open(&draft)?;
    for job in jobs {
        file.write_all(&line_of(job))?;
    }
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    saved::sync_folder(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str) -> Job {
        let id: JobId = id.parse().expect("an id");
        let reply = Reply::Done { job: id.clone(), repeated: false, said: "x".into() };
        Job { request: Request::Reload { job: id }, reply }
    }

    fn knows(jobs: &Jobs, id: &str) -> bool {
        jobs.find(&id.parse().expect("an id")).is_some()
    }

    #[test]
    fn outcomes_outlive_the_daemon_and_a_torn_line_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jobs.jsonl");
        let mut jobs = Jobs::open(&path).expect("it opens");
        jobs.keep(job("a")).expect("it is kept");
        jobs.keep(job("b")).expect("it is kept");
        let whole = std::fs::read(&path).expect("it is there");
        for cut in [whole.len() - 1, whole.len() / 2 + 1] {
            std::fs::write(&path, &whole[..cut]).expect("it can be written");
            let jobs = Jobs::open(&path).expect("a torn tail is no damage");
            assert!(knows(&jobs, "a") && !knows(&jobs, "b"));
            assert_eq!(std::fs::read(&path).expect("it is there").last(), Some(&b'\n'), "the tail is gone");
        }
        std::fs::write(&path, b"{}\n").expect("it can be written");
        assert!(Jobs::open(&path).is_err(), "a bad line that is not torn");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("jobs.jsonl");
        let mut jobs = Jobs::open(&path).expect("it opens");
        for at in 0..2 * JOBS_KEPT + 3 {
            jobs.keep(job(&format!("j{at}"))).expect("it is kept");
        }
        assert!(!knows(&jobs, "j0") && knows(&jobs, &format!("j{}", 2 * JOBS_KEPT + 2)));
        let lines = std::fs::read_to_string(&path).expect("it is there").lines().count();
        assert!((JOBS_KEPT..=JOBS_KEPT + 3).contains(&lines), "{lines}");
        assert_eq!(Jobs::open(&path).expect("it opens").kept.len(), JOBS_KEPT);
    }
}
