//! Whether the other end of a control connection is there, and whether it left on purpose.
//!
//! What is received counts as life, byte by byte. Silence is asked about, and too much of it is the end. An end that has
//! nothing more to say says goodbye; a connection that closes without one was lost.
//!
//! **Invariant**: whatever the other end sends, at most one answer waits, and the next moment to look at the clock is known.

use crate::error::SessionError;
use failback_model::Code;
use failback_model::limits::{GOODBYE_MAX, IDLE_MAX, PING_IDLE};
use failback_wire::Message;
use std::time::{Duration, Instant};

/// Watches one connection.
#[derive(Debug)]
pub struct Liveness {
    heard_at: Instant,
    /// When the silence that lasts was asked about.
    asked_at: Option<Instant>,
    pinged_at: Instant,
    /// Pings sent, and the highest one that was answered.
    pings: u64,
    answered: u64,
    is_ping_due: bool,
    pong: Option<u64>,
    round_trip: Option<Duration>,
    said_bye_at: Option<Instant>,
    has_left: bool,
}

impl Liveness {
    /// A connection that has just come to stand.
    pub fn new(now: Instant) -> Self {
        Self {
            heard_at: now,
            asked_at: None,
            pinged_at: now,
            pings: 0,
            answered: 0,
            is_ping_due: false,
            pong: None,
            round_trip: None,
            said_bye_at: None,
            has_left: false,
        }
    }

    /// Bytes came, whole frames or not.
    pub fn handle_received(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
        self.asked_at = None;
        self.is_ping_due = false;
    }

    /// Takes a message of [`failback_wire::Class::Link`].
    pub fn handle_message(&mut self, message: &Message, now: Instant) -> Result<(), SessionError> {
        if self.has_left {
            return Err(SessionError::violation("a message after the goodbye"));
        }
        match *message {
            // Who asks twice before it was answered gets the newer answer.
            Message::Ping { nonce } => self.pong = Some(nonce),
            Message::Pong { nonce } if nonce > self.answered && nonce <= self.pings => {
                self.answered = nonce;
                if nonce == self.pings {
                    self.round_trip = Some(now.saturating_duration_since(self.pinged_at));
                }
            }
            Message::Bye => self.has_left = true,
            _ => return Err(SessionError::violation("a message that has no place in an open session")),
        }
        self.handle_received(now);
        Ok(())
    }

    /// Tells the time. An error with [`Code::TimedOut`] where the other end is gone.
    pub fn handle_time(&mut self, now: Instant) -> Result<(), SessionError> {
        if let Some(said) = self.said_bye_at {
            return match self.has_left || now < said + GOODBYE_MAX {
                true => Ok(()),
                false => Err(timed_out("no goodbye from the other end", GOODBYE_MAX)),
            };
        }
        if now >= self.heard_at + IDLE_MAX {
            return Err(timed_out("nothing from the other end", IDLE_MAX));
        }
        if now >= self.next_ping() {
            self.asked_at = Some(now);
            self.pinged_at = now;
            self.is_ping_due = true;
        }
        Ok(())
    }

    /// When [`Self::handle_time`] wants to be called; `None` when all is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.said_bye_at {
            Some(said) => (!self.has_left).then_some(said + GOODBYE_MAX),
            None => Some(self.next_ping().min(self.heard_at + IDLE_MAX)),
        }
    }

    /// An answer or a question; ahead of everything that waits.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        if self.said_bye_at.is_some() {
            return None;
        }
        if let Some(nonce) = self.pong.take() {
            return Some(Message::Pong { nonce });
        }
        std::mem::take(&mut self.is_ping_due).then(|| {
            self.pings += 1;
            Message::Ping { nonce: self.pings }
        })
    }

    /// The goodbye: to be sent after everything else on every connection, and nothing after it.
    pub fn goodbye(&mut self, now: Instant) -> Message {
        self.said_bye_at = Some(now);
        Message::Bye
    }

    /// The connection was closed by the other end, or broke: an error with [`Code::ConnectionLost`] where it had not said
    /// goodbye.
    pub fn handle_closed(&self, why: &str) -> Result<(), SessionError> {
        match self.has_left {
            true => Ok(()),
            false => Err(SessionError { code: Code::ConnectionLost, reason: why.into() }),
        }
    }

    /// How long the last answer to a ping took; `None` while there was no silence to ask about.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether the other end said goodbye.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// Whether both did: the connections may close.
    pub fn is_over(&self) -> bool {
        self.has_left && self.said_bye_at.is_some()
    }

    fn next_ping(&self) -> Instant {
        self.asked_at.unwrap_or(self.heard_at) + PING_IDLE
    }
}

fn timed_out(what: &str, limit: Duration) -> SessionError {
    SessionError { code: Code::TimedOut, reason: format!("{what} for {} s", limit.as_secs()) }
}
