//! The listening side of the control socket.

use super::desk::{Desk, refused};
use super::line::{LineError, read_line, write_line};
use super::protocol::Request;
use crate::event::Caller;
use crate::saved::failed;
use failback_model::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_LINE_MAX_BYTES};
use failback_model::{Code, Finding};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::BufReader;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A bound control socket, removed again when dropped.
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlServer {
    /// Binds the socket for its owner and group (0660). One that a dead daemon left is replaced; one that answers is
    /// another daemon's.
    pub fn bind(path: &Path) -> Result<Self, Finding> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(failed("bind", path, "something that is no socket is there"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                let evidence = format!("a daemon answers at {}", path.display());
                return Err(Finding::error(Code::AlreadyRunning, evidence));
            }
            _ => {}
        }
        let listener = bind_anew(path).map_err(|error| failed("bind", path, error))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers until it is stopped.
    pub async fn run(self, desk: Arc<Desk>, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let mut stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: they come back when connections end.
                    tracing::warn!("the control socket cannot accept: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
                let evidence = format!("{CONTROL_CONNECTIONS_MAX} are open");
                let reply = refused(None, &[Finding::error(Code::Busy, evidence)]);
                // It may well not listen.
                tokio::spawn(async move { drop(write_line(&mut stream, &reply).await) });
                continue;
            };
            let (desk, stop) = (Arc::clone(&desk), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(stream, &desk) => {}
                }
                drop(permit);
            });
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // A socket that stays is replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds under a name of its own, sets the rights, and only then puts it where clients look.
fn bind_anew(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let draft = path.with_extension(format!("{}", std::process::id()));
    let listener = UnixListener::bind(&draft)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o660))?;
    fs::rename(&draft, path)?;
    Ok(listener)
}

async fn serve(stream: UnixStream, desk: &Arc<Desk>) {
    let caller = match stream.peer_cred() {
        Ok(cred) => Caller { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() },
        Err(error) => return tracing::warn!("a control connection without credentials: {error}"),
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = match read_line(&mut reader).await {
            Ok(line) => line,
            Err(LineError::Closed) => return,
            Err(error) => {
                let finding = Finding::error(Code::RequestInvalid, error.to_string());
                return drop(write_line(&mut writer, &refused(None, &[finding])).await);
            }
        };
        if line.is_empty() {
            continue;
        }
        let told = match serde_json::from_slice(&line) {
            Ok(request) => answer(desk, caller, request, &mut reader, &mut writer).await,
            Err(error) => {
                let finding = Finding::error(Code::RequestInvalid, error.to_string());
                write_line(&mut writer, &refused(None, &[finding])).await
            }
        };
        if told.is_err() {
            return;
        }
    }
}

async fn answer(
    desk: &Arc<Desk>,
    caller: Caller,
    request: Request,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), LineError> {
    if let Request::Events { since, machine } = &request {
        let subscription = desk.events().subscribe(*since);
        write_line(writer, &desk.answer(caller, &request)).await?;
        let machine = machine.as_ref().map(ToString::to_string);
        return stream_events(subscription, machine.as_deref(), reader, writer).await;
    }
    let desk = Arc::clone(desk);
    // Jobs write files; they do so where it holds up nobody else.
    let reply = tokio::task::spawn_blocking(move || desk.answer(caller, &request)).await;
    let reply = reply.unwrap_or_else(|error| {
        refused(None, &[Finding::error(Code::Internal, format!("the request broke off: {error}"))])
    });
    write_line(writer, &reply).await
}

/// Tells events until the client leaves; whatever it still says is ignored.
async fn stream_events(
    mut subscription: crate::event::Subscription,
    machine: Option<&str>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Result<(), LineError> {
    use tokio::io::AsyncBufReadExt as _;
    loop {
        let envelope = tokio::select! {
            envelope = subscription.next() => envelope.ok_or(LineError::Closed)?,
            said = reader.fill_buf() => {
                let length = said?.len();
                if length == 0 {
                    return Err(LineError::Closed);
                }
                reader.consume(length.min(CONTROL_LINE_MAX_BYTES));
                continue;
            }
        };
        // An event about no machine is for everyone.
        if machine.is_none() || envelope.event.machine().is_none() || envelope.event.machine() == machine {
            write_line(writer, &*envelope).await?;
        }
    }
}
