//! Sessions that wait for their data connections.
//!
//! **Invariant**: a connection joins only with the session's token and the very certificate that opened the session, and
//! each number once.

use crate::link::Core;
use failback_model::{Code, SessionToken};
use failback_wire::{Join, Version, Welcome};
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

struct Waiting {
    core: Weak<Core>,
    certificate: CertificateDer<'static>,
    version: Version,
    joined: Vec<bool>,
}

/// By token.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionToken, Waiting>>);

/// Why a connection may not join.
pub(super) struct JoinError {
    pub(super) code: Code,
    pub(super) message: &'static str,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionToken, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the session's connections may join.
    pub(super) fn expect(
        &self,
        core: &Arc<Core>,
        welcome: &Welcome,
        certificate: Option<&CertificateDer<'static>>,
    ) {
        let Some(certificate) = certificate.cloned() else { return };
        let waiting = Waiting {
            core: Arc::downgrade(core),
            certificate,
            version: welcome.version,
            joined: vec![false; welcome.data_connections.into()],
        };
        self.lock().insert(welcome.token, waiting);
    }

    /// The session has ended.
    pub(super) fn forget(&self, token: &SessionToken) {
        self.lock().remove(token);
    }

    /// Finds the session of a connection and takes its number.
    pub(super) fn join(
        &self,
        join: &Join,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<Arc<Core>, JoinError> {
        // The same answer to a wrong token and to another's: who guesses learns nothing.
        let stranger =
            JoinError { code: Code::StaleSession, message: "no session waits for this connection" };
        let mut sessions = self.lock();
        let Some(waiting) = sessions.get_mut(&join.token) else { return Err(stranger) };
        let Some(core) = waiting.core.upgrade() else { return Err(stranger) };
        if certificate != Some(&waiting.certificate) {
            return Err(stranger);
        }
        if join.version != waiting.version {
            let message = "a join of another version than the session's";
            return Err(JoinError { code: Code::ProtocolViolation, message });
        }
        match waiting.joined.get_mut(usize::from(join.index)) {
            Some(taken) if !*taken => *taken = true,
            _ => {
                let message = "a join with a number that is taken, or was not granted";
                return Err(JoinError { code: Code::ProtocolViolation, message });
            }
        }
        Ok(core)
    }
}
