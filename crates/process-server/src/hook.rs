//! Runs one command of an operator's, and lets nothing of it outlive its time.
//!
//! **Invariant**: a hook ends at its limit whatever it does: it has a process group of its own, which is killed as a whole.
//! What it writes goes into the log, of each output the first [`HOOK_OUTPUT_MAX_BYTES`].

use failback_model::limits::{HOOK_KILLED_MAX, HOOK_OUTPUT_MAX, HOOK_OUTPUT_MAX_BYTES};
use failback_model::{JobId, MachineId};
use failback_service::report::printable;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A command for a job of a machine.
pub(crate) struct Hook<'a> {
    /// Its key in the configuration.
    pub(crate) name: &'static str,
    /// Program and arguments.
    pub(crate) command: &'a [String],
    /// For which machine.
    pub(crate) machine: &'a MachineId,
    /// For which job.
    pub(crate) job: &'a JobId,
    /// What else it is told, in its environment.
    pub(crate) environment: &'a [(&'static str, String)],
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// Why a hook did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("{0} cannot be started: {1}")]
    NotStarted(&'static str, io::Error),
    #[error("{0} ended with {1}{2}")]
    Failed(&'static str, ExitStatus, LastWords),
    #[error("{0} was killed after {limit} s, its limit{2}", limit = .1.as_secs())]
    Late(&'static str, Duration, LastWords),
    #[error("{0} was killed: the job was stopped")]
    Stopped(&'static str),
}

/// The last line that a hook wrote, for whoever reads only why it failed.
#[derive(Debug, Default)]
pub(crate) struct LastWords(String);

impl std::fmt::Display for LastWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl Hook<'_> {
    /// Runs it to its end, its limit, or until `stop` returns.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), HookError> {
        let mut child = self.start().map_err(|error| HookError::NotStarted(self.name, error))?;
        let (mut readers, outputs) = (JoinSet::new(), [Output::default(), Output::default()]);
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            readers.spawn(outputs[0].clone().take(out));
            readers.spawn(outputs[1].clone().take(err));
        }
        let ended = tokio::select! {
            status = child.wait() => Some(Ok(status)),
            () = tokio::time::sleep(self.limit) => Some(Err(self.limit)),
            () = stop => None,
        };
        if !matches!(ended, Some(Ok(_))) {
            kill(&mut child).await;
        }
        // What it left behind may hold its output open for ever.
        let _ = timeout(HOOK_OUTPUT_MAX, async { while readers.join_next().await.is_some() {} }).await;
        readers.abort_all();
        let last_words = self.log(&outputs);
        match ended {
            Some(Ok(Ok(status))) if status.success() => Ok(()),
            Some(Ok(Ok(status))) => Err(HookError::Failed(self.name, status, last_words)),
            Some(Ok(Err(error))) => Err(HookError::NotStarted(self.name, error)),
            Some(Err(limit)) => Err(HookError::Late(self.name, limit, last_words)),
            None => Err(HookError::Stopped(self.name)),
        }
    }

    fn start(&self) -> io::Result<Child> {
        let [program, arguments @ ..] = self.command else {
            return Err(io::Error::other("it is empty"));
        };
        Command::new(program)
            .args(arguments)
            .env("FAILBACK_MACHINE", self.machine.as_str())
            .env("FAILBACK_JOB", self.job.as_str())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // The service manager listens to the daemon, not to what it starts.
            .env_remove("NOTIFY_SOCKET")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Writes what came into the log; the last line of the error output, else of the other one.
    fn log(&self, outputs: &[Output; 2]) -> LastWords {
        let (machine, hook) = (self.machine.as_str(), self.name);
        let mut last_words = LastWords::default();
        for output in outputs {
            let (text, dropped_bytes) = output.text();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                tracing::info!(machine, hook, "{}", printable(line));
                last_words = LastWords(printable(line).chars().take(LAST_WORDS_MAX_CHARS).collect());
            }
            if dropped_bytes > 0 {
                tracing::info!(machine, hook, "{dropped_bytes} more bytes are not logged");
            }
        }
        last_words
    }
}

/// Kills all that a hook started, and waits until it is gone: a process that hangs in the kernel is left to it.
async fn kill(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
        // It is gone already, or was never ours to kill: nothing else to do about it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = timeout(HOOK_KILLED_MAX, child.wait()).await;
}

/// So much of what a hook said stands in a finding.
const LAST_WORDS_MAX_CHARS: usize = 160;

/// The first bytes of one output, and how many more there were.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<(Vec<u8>, u64)>>);

impl Output {
    /// Takes all that comes, so that a hook never waits for its reader.
    async fn take(self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = count.min(HOOK_OUTPUT_MAX_BYTES - held.0.len());
            held.0.extend_from_slice(&buffer[..kept]);
            held.1 += (count - kept) as u64;
        }
    }

    fn text(&self) -> (String, u64) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (String::from_utf8_lossy(&held.0).into_owned(), held.1)
    }
}

#[cfg(test)]
mod tests;
