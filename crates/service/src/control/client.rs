//! The asking side of the control socket, without a runtime: what the command uses.

use super::protocol::{Reply, Request};
use crate::event::Envelope;
use failback_model::limits::CONTROL_LINE_MAX_BYTES;
use failback_model::{Code, Finding};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A reply of a busy daemon may take this long.
const REPLY_MAX: Duration = Duration::from_secs(60);
/// A status of many machines is longer than any request.
const REPLY_MAX_BYTES: u64 = 256 * CONTROL_LINE_MAX_BYTES as u64;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, Finding> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(REPLY_MAX))?;
            stream.set_write_timeout(Some(REPLY_MAX))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| unreachable(path, &error))?;
        Ok(Self { path: path.to_owned(), reader: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer. A refusal is an answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, Finding> {
        self.send(request)?;
        let line = self.line()?.ok_or_else(|| unreachable(&self.path, &io::Error::other("it hung up")))?;
        serde_json::from_slice(&line).map_err(|error| foreign(&self.path, &error))
    }

    /// Asks for events; they come as long as the daemon runs.
    pub fn events(mut self, request: &Request) -> Result<EventLines, Finding> {
        match self.ask(request)? {
            Reply::Refused { findings, .. } => {
                Err(findings.first().and_then(|finding| finding.finding()).unwrap_or_else(|| {
                    Finding::error(Code::RequestInvalid, "the daemon refused to tell its events")
                }))
            }
            _ => {
                let patient = self.reader.get_ref().set_read_timeout(None);
                patient.map_err(|error| unreachable(&self.path, &error))?;
                Ok(EventLines(self))
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), Finding> {
        let mut line = serde_json::to_vec(request).expect("requests have string keys");
        line.push(b'\n');
        if line.len() > CONTROL_LINE_MAX_BYTES {
            let evidence =
                format!("the request has {} bytes, and {CONTROL_LINE_MAX_BYTES} may be sent", line.len());
            return Err(Finding::error(Code::RequestInvalid, evidence));
        }
        self.reader.get_mut().write_all(&line).map_err(|error| unreachable(&self.path, &error))
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, Finding> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(REPLY_MAX_BYTES).read_until(b'\n', &mut line);
        match read.map_err(|error| unreachable(&self.path, &error))? {
            0 => Ok(None),
            _ => Ok(Some(line)),
        }
    }
}

/// Events as they come; ends when the daemon does.
#[derive(Debug)]
pub struct EventLines(Client);

impl Iterator for EventLines {
    type Item = Result<Envelope, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.0.line().transpose()?;
        Some(
            line.and_then(|line| {
                serde_json::from_slice(&line).map_err(|error| foreign(&self.0.path, &error))
            }),
        )
    }
}

fn unreachable(path: &Path, error: &io::Error) -> Finding {
    Finding::error(Code::DaemonUnreachable, format!("{}: {error}", path.display()))
}

fn foreign(path: &Path, error: &serde_json::Error) -> Finding {
    Finding::error(
        Code::DaemonUnreachable,
        format!("{} answers what is not understood: {error}", path.display()),
    )
    .with_remedy("use the command and the daemon of one release")
}
