//! The sending end's side: one request, one answer, in time.

use super::terms::{check_clocks, check_products};
use crate::error::SessionError;
use failback_model::Code;
use failback_model::limits::WELCOME_MAX;
use failback_wire::{Message, Open, Welcome};
use std::time::Instant;

/// Asks for a session.
#[derive(Debug)]
pub struct Opening {
    open: Open,
    is_sent: bool,
    is_answered: bool,
    deadline: Instant,
}

impl Opening {
    /// Will send this request; the answer is waited for from `now` on.
    pub fn new(open: Open, now: Instant) -> Self {
        Self { open, is_sent: false, is_answered: false, deadline: now + WELCOME_MAX }
    }

    /// The request, once.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        let is_first = !std::mem::replace(&mut self.is_sent, true);
        is_first.then(|| Message::Open(Box::new(self.open.clone())))
    }

    /// When [`Self::handle_time`] wants to be called; `None` once an answer came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_answered).then_some(self.deadline)
    }

    /// Tells the time; an error with [`Code::TimedOut`] where the answer is overdue.
    pub fn handle_time(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.is_answered || now < self.deadline {
            return Ok(());
        }
        let reason = format!("no answer to the request for a session within {} s", WELCOME_MAX.as_secs());
        Err(SessionError { code: Code::TimedOut, reason })
    }

    /// Takes the answer, received when this end's clock stood at `clock_unix_ms`. A refusal comes back as the error that it
    /// carries, with its own code.
    pub fn handle_message(&mut self, message: Message, clock_unix_ms: u64) -> Result<Welcome, SessionError> {
        if std::mem::replace(&mut self.is_answered, true) || !self.is_sent {
            return Err(SessionError::violation("an answer to no request"));
        }
        match message {
            Message::Welcome(welcome) => {
                self.check(&welcome, clock_unix_ms)?;
                Ok(*welcome)
            }
            Message::Error { code, message } => Err(SessionError::refusal(&code, message)),
            _ => Err(SessionError::violation("an answer that is neither a welcome nor a refusal")),
        }
    }

    fn check(&self, welcome: &Welcome, clock_unix_ms: u64) -> Result<(), SessionError> {
        let open = &self.open;
        check_products(open.product, welcome.product)?;
        check_clocks(clock_unix_ms, welcome.clock_unix_ms)?;
        let version = welcome.version.number();
        if version < open.version_min || version > open.version_max {
            return Err(SessionError::violation(format!("protocol version {version} was not offered")));
        }
        if welcome.capabilities.common(open.capabilities) != welcome.capabilities {
            return Err(SessionError::violation("a capability that was not offered"));
        }
        if welcome.data_connections > open.data_connections {
            return Err(SessionError::violation("more data connections than were asked for"));
        }
        if welcome.is_divergence_accepted && !open.accept_divergence {
            return Err(SessionError::violation("a divergence that nobody accepted"));
        }
        let pass_bytes = open.length_bytes.min(welcome.length_bytes);
        if pass_bytes < open.content_end_bytes.min(open.length_bytes) || welcome.pass_bytes != pass_bytes {
            return Err(SessionError::violation("a session although the target is too small"));
        }
        Ok(())
    }
}
