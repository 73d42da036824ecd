//! `failback status`: once, again and again, or as a check.

use super::orders::voice;
use super::{ask, check, text, unexpected};
use crate::control_args::StatusArgs;
use crate::report::{Nothing, Summary, Voice, print, unheard};
use failback_model::{ExitClass, Finding};
use failback_service::control::{Reply, Request};
use failback_service::status::DaemonStatus;
use serde::Serialize;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc;
use std::time::Duration;

/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// What the daemon said.
#[derive(Serialize)]
struct Shown {
    daemon_status: DaemonStatus,
}

impl Summary for Shown {
    fn text(&self) -> String {
        text::of(&self.daemon_status)
    }
}

/// Runs the command.
pub(crate) fn run(args: &StatusArgs) -> ExitClass {
    let voice = voice("status", &args.output);
    if args.check {
        return check::run(args, look(args));
    }
    if args.watch {
        return watch(args, voice);
    }
    match look(args) {
        Ok(daemon_status) => voice.finish("done", &Shown { daemon_status }, &[]),
        Err(findings) => voice.fail(&findings),
    }
}

/// One look.
fn look(args: &StatusArgs) -> Result<DaemonStatus, Vec<Finding>> {
    match ask(&args.socket, &Request::Status { machine: args.machine.clone() })? {
        Reply::Status { status } => Ok(status),
        reply => Err(unexpected(&reply)),
    }
}

/// Looks again and again until a signal ends the command. A daemon that does not answer may come back.
fn watch(args: &StatusArgs, voice: Voice) -> ExitClass {
    let is_terminal = io::stdout().is_terminal();
    let (_never, tick) = mpsc::channel::<()>();
    loop {
        let shown = match (look(args), voice.json) {
            (Ok(daemon_status), true) => voice.line("done", &Shown { daemon_status }, &[]),
            (Ok(daemon_status), false) => text::of(&daemon_status),
            (Err(findings), true) => voice.line("failed", &Nothing {}, &findings),
            (Err(findings), false) => findings.iter().map(failback_service::report::paragraph).collect(),
        };
        let clear = if is_terminal && !voice.json { CLEAR } else { "" };
        if let Err(error) = print(&format!("{clear}{shown}")) {
            return voice.fail(&[unheard(&error)]);
        }
        let _ = tick.recv_timeout(Duration::from_secs(args.every));
    }
}
