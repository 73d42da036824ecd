//! Connections to one export, each used by one thread at a time.
//!
//! **Invariant**: all connections show the same export; one that was lost is replaced, in bounded time, or the call fails.

use super::error::NbdError;
use super::negotiate::{self, Export};
use super::socket::{Socket, Stream};
use super::tls::Client;
use super::transmit::Transmission;
use super::uri::NbdUri;
use failback_model::limits::{
    NBD_FURTHER_SETUP_MAX, NBD_RECONNECT_MAX, NBD_RETRIES, NBD_SETUP_MAX, NBD_SILENCE_MAX,
};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// First pause before a server is looked for again; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) setup: Duration,
    pub(super) silence: Duration,
    pub(super) reconnect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { setup: NBD_SETUP_MAX, silence: NBD_SILENCE_MAX, reconnect: NBD_RECONNECT_MAX }
    }
}

/// How connections are made.
#[derive(Debug)]
pub(super) struct Connector {
    uri: NbdUri,
    tls: Option<Client>,
    context: Option<String>,
    patience: Patience,
}

impl Connector {
    /// For an export; `context` names a metadata context that is asked for.
    pub(super) fn new(uri: &NbdUri, context: Option<&str>, patience: Patience) -> Result<Self, NbdError> {
        let tls = uri.tls.as_ref().map(|choice| Client::load(uri, choice)).transpose()?;
        Ok(Self { uri: uri.clone(), tls, context: context.map(Into::into), patience })
    }

    fn greeted(&self, within: Duration) -> Result<Stream, NbdError> {
        let mut socket = Socket::connect(&self.uri.transport, Instant::now() + within)?;
        negotiate::greet(&mut socket)?;
        match &self.tls {
            None => Ok(Stream::Plain(socket)),
            Some(client) => {
                negotiate::start_tls(&mut socket)?;
                client.wrap(socket)
            }
        }
    }

    fn connect(&self, within: Duration) -> Result<Transmission<Stream>, NbdError> {
        let mut stream = self.greeted(within)?;
        let export = negotiate::enter(&mut stream, &self.uri.export, self.context.as_deref())
            .inspect_err(|_| negotiate::abort(&mut stream))?;
        stream.socket().set_up(self.patience.silence)?;
        Ok(Transmission::new(stream, export))
    }

    /// Metadata contexts of the export under a namespace.
    pub(super) fn contexts(&self, namespace: &str) -> Result<Vec<String>, NbdError> {
        let mut stream = self.greeted(self.patience.setup)?;
        let found = negotiate::structured(&mut stream)
            .and_then(|()| negotiate::list_contexts(&mut stream, &self.uri.export, namespace));
        negotiate::abort(&mut stream);
        found
    }
}

/// Connections to one export.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    export: Export,
    most: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    idle: Vec<Transmission<Stream>>,
    /// Those and the ones at work.
    open: usize,
    /// Connections that the server seems to grant.
    most: usize,
}

impl Pool {
    /// Connects once, to see the export; up to `most` connections follow as they are needed, where the server's flags say that
    /// they see the same.
    pub(super) fn open(connector: Connector, most: usize) -> Result<Self, NbdError> {
        let first = connector.connect(connector.patience.setup)?;
        let export = first.export().clone();
        let most = if export.is_multi_conn() { most.max(1) } else { 1 };
        let state = Mutex::new(State { idle: vec![first], open: 1, most });
        Ok(Self { connector, export, most, state, freed: Condvar::new() })
    }

    /// What the server says of the export.
    pub(super) fn export(&self) -> &Export {
        &self.export
    }

    /// How it connects.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Does something on a connection; once more on another where it is lost meanwhile.
    pub(super) fn with<T>(
        &self,
        mut work: impl FnMut(&mut Transmission<Stream>) -> Result<T, NbdError>,
    ) -> Result<T, NbdError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let mut connection = self.take()?;
            let done = work(&mut connection);
            match &done {
                Ok(_) | Err(NbdError::Answered(_)) => self.give_back(connection),
                Err(NbdError::Lost(_)) => {
                    // Its idle neighbours are of the same server.
                    self.forget(true);
                    tries += 1;
                    if tries <= NBD_RETRIES && begun.elapsed() < self.connector.patience.reconnect {
                        continue;
                    }
                }
                Err(_) => self.forget(false),
            }
            return done;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Transmission<Stream>, NbdError> {
        loop {
            let mut state = self.state();
            let is_first = loop {
                if let Some(connection) = state.idle.pop() {
                    return Ok(connection);
                }
                if state.open < state.most {
                    state.open += 1;
                    break state.open == 1;
                }
                state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            if is_first {
                let connection = self.connect_again().inspect_err(|_| self.forget(false))?;
                self.state().most = self.most;
                return Ok(connection);
            }
            match self.connector.connect(NBD_FURTHER_SETUP_MAX).and_then(|connection| self.check(connection))
            {
                // The server lets no more in: those that are there must do.
                Err(NbdError::Unreachable(_) | NbdError::Lost(_)) => {
                    let mut state = self.state();
                    state.open -= 1;
                    state.most = state.open.max(1);
                }
                done => return done.inspect_err(|_| self.forget(false)),
            }
            self.freed.notify_all();
        }
    }

    fn give_back(&self, connection: Transmission<Stream>) {
        self.state().idle.push(connection);
        self.freed.notify_one();
    }

    /// One connection is gone, and with `all` every idle one.
    fn forget(&self, all: bool) {
        let mut state = self.state();
        let idle = if all { std::mem::take(&mut state.idle) } else { Vec::new() };
        state.open -= 1 + idle.len();
        drop(state);
        self.freed.notify_all();
    }

    /// Connects to a server that was there before; one that is being started anew is waited for.
    fn connect_again(&self) -> Result<Transmission<Stream>, NbdError> {
        let until = Instant::now() + self.connector.patience.reconnect;
        let mut pause = PAUSE_MIN;
        loop {
            match self.connector.connect(self.connector.patience.setup) {
                Ok(connection) => return self.check(connection),
                Err(NbdError::Unreachable(_) | NbdError::Lost(_)) if Instant::now() + pause < until => {
                    std::thread::sleep(pause);
                    pause = PAUSE_MAX.min(pause * 2);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&self, connection: Transmission<Stream>) -> Result<Transmission<Stream>, NbdError> {
        let (was, is) = (&self.export, connection.export());
        if !is.is_same(was) {
            return Err(NbdError::Changed(format!(
                "{} bytes (flags {:#x}) became {} bytes (flags {:#x})",
                was.length_bytes, was.flags, is.length_bytes, is.flags
            )));
        }
        Ok(connection)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for connection in &mut self.state().idle {
            connection.disconnect();
        }
    }
}
