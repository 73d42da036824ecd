//! A command whose output is wanted, and is a secret.
//!
//! **Invariant**: it takes no longer than it may, also where what it started holds its output open.

use crate::waits::Waits;
use failback_model::limits::COMMAND_POLL;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What bounds a command.
pub(crate) struct Bounds<'a> {
    /// Most bytes that it may write.
    pub(crate) bytes: u64,
    /// From its start.
    pub(crate) time: Duration,
    /// Ends it early.
    pub(crate) waits: &'a Waits,
}

/// What it wrote, once it has ended well; else why not, without a word of its output.
pub(crate) fn output_of(words: &[String], stderr: Stdio, bounds: &Bounds<'_>) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let ended = wait(&mut child, bounds);
    if ended.is_err() {
        if let Some(group) = Pid::from_raw(child.id() as i32) {
            // All of it may have ended in between.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _status = child.wait();
    }
    match ended? {
        (status, _) if !status.success() => Err(format!("failed: {status}")),
        (_, text) => text.ok_or_else(|| "wrote no text".into()),
    }
}

/// Its end and its output, where both come in time.
fn wait(child: &mut Child, bounds: &Bounds<'_>) -> Result<(ExitStatus, Option<String>), String> {
    let mut pipe = child.stdout.take().ok_or("has no output")?.take(bounds.bytes);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let text = pipe.read_to_string(&mut text).is_ok().then_some(text);
        // Nobody waits any more where it took too long.
        let _late = send.send(text);
    });
    let (started, mut output, mut status) = (Instant::now(), None, None);
    loop {
        match receive.recv_timeout(COMMAND_POLL) {
            Ok(text) => output = Some(text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(COMMAND_POLL),
        }
        if status.is_none() {
            status = child.try_wait().map_err(|error| error.to_string())?;
        }
        match (status, &mut output) {
            (Some(status), Some(text)) => return Ok((status, text.take())),
            _ if bounds.waits.are_stopped() => return Err("was stopped".into()),
            _ if started.elapsed() >= bounds.time => {
                return Err(format!("took more than {} s", bounds.time.as_secs_f32()));
            }
            _ => {}
        }
    }
}
