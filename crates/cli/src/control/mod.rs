//! Commands that speak with a daemon over its control socket.

mod check;
pub(crate) mod events;
pub(crate) mod forecast;
pub(crate) mod orders;
mod plan;
pub(crate) mod points;
pub(crate) mod registry;
pub(crate) mod status;
mod text;
pub(crate) mod verbs;
pub(crate) mod verify;

use crate::control_args::SocketArgs;
use failback_model::{Code, Finding};
use failback_service::control::{Client, Reply, Request};
use failback_service::report::FindingLine;

/// Asks a daemon; a refusal is an error.
pub(crate) fn ask(socket: &SocketArgs, request: &Request) -> Result<Reply, Vec<Finding>> {
    let alone = |finding| vec![finding];
    let reply = Client::connect(&socket.socket).map_err(alone)?.ask(request).map_err(alone)?;
    match reply {
        Reply::Refused { findings, .. } => Err(findings.iter().map(understood).collect()),
        reply => Ok(reply),
    }
}

/// A finding of a daemon that may be newer than this command.
fn understood(line: &FindingLine) -> Finding {
    line.finding().unwrap_or_else(|| {
        let evidence = format!("{} {}: {}", line.code, line.title, line.evidence);
        Finding::error(Code::Internal, evidence).with_remedy(&line.remedy)
    })
}

/// An answer to another question.
pub(crate) fn unexpected(reply: &Reply) -> Vec<Finding> {
    vec![Finding::error(Code::Internal, format!("the daemon answered {reply:?}"))]
}
