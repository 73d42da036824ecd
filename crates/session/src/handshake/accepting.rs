//! The receiving end's side: what is asked is checked in three steps, each with what is known by then.

use super::terms::{check_clocks, check_products, check_source_time, common_version};
use crate::error::SessionError;
use failback_model::limits::{DATA_CONNECTIONS_MAX, SETUP_MAX};
use failback_model::{
    BlockSize, Code, Digest, Epoch, Generation, Layout, ProductVersion, SessionNumber, SessionToken,
};
use failback_wire::{Capabilities, Message, Open, Version, Welcome};
use std::time::Instant;

/// What the receiving end brings to every session.
#[derive(Debug, Clone, Copy)]
pub struct AcceptingOptions {
    /// Its product version.
    pub product: ProductVersion,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Data connections that it grants a session.
    pub data_connections: u16,
}

/// What was asked for, as far as it can be checked without knowing the disk.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request.
    pub open: Open,
    /// The pass's disk.
    pub layout: Layout,
}

/// The disk that was asked for, as the registry and the store know it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its length, bytes.
    pub length_bytes: u64,
    /// Its logical sector size, bytes.
    pub sector_bytes: u32,
    /// What its partition table calls it, as in [`Open`]; empty: nothing.
    pub disk_mark: String,
    /// Newest epoch that ever opened a session.
    pub epoch: Epoch,
    /// Generation of its last sealed state; 0: none.
    pub generation: Generation,
    /// Root of that state, while the disk still is that state.
    pub root: Option<Digest>,
    /// It reads as zero.
    pub is_new: bool,
    /// Blocks can be looked up in seeds.
    pub has_seeds: bool,
    /// A pass was cut, and what it left is trusted in part.
    pub is_resumed: bool,
    /// Something else wrote to it, and that is accepted.
    pub is_divergence_accepted: bool,
    /// It was handed over since its last pass, after going to one of its older or newer states, and this newer job takes it
    /// back: how its states were counted meanwhile says nothing of the source's age.
    pub is_taken_back: bool,
    /// Bytes of pages that may be under way.
    pub window_bytes: u64,
}

#[derive(Debug)]
enum State {
    Waiting,
    Asked { open: Box<Open>, version: Version },
    Agreed { open: Box<Open>, version: Version, target: Box<Target>, pass_bytes: u64 },
    Answered,
}

/// Answers a request for a session.
#[derive(Debug)]
pub struct Accepting {
    options: AcceptingOptions,
    state: State,
    deadline: Instant,
    transmit: Option<Message>,
}

impl Accepting {
    /// A connection that has yet to say what it wants; it has from `now` on to do so.
    pub fn new(options: AcceptingOptions, now: Instant) -> Self {
        Self { options, state: State::Waiting, deadline: now + SETUP_MAX, transmit: None }
    }

    /// The answer, once there is one. After a refusal the connection closes.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        self.transmit.take()
    }

    /// When [`Self::handle_time`] wants to be called; `None` once a request came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        matches!(self.state, State::Waiting).then_some(self.deadline)
    }

    /// Tells the time; an error with [`Code::TimedOut`] where the request is overdue.
    pub fn handle_time(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let reason = format!("no request within {} s", SETUP_MAX.as_secs());
        self.refused(SessionError { code: Code::TimedOut, reason })
    }

    /// Takes the first message, received when this end's clock stood at `clock_unix_ms`. Next: find the disk, check that the
    /// peer may write it, and [`Self::handle_target`] or [`Self::refuse`].
    pub fn handle_message(&mut self, message: Message, clock_unix_ms: u64) -> Result<Request, SessionError> {
        match std::mem::replace(&mut self.state, State::Answered) {
            State::Waiting => {}
            _ => return self.refused(SessionError::violation("a second request on one connection")),
        }
        let Message::Open(open) = message else {
            return self.refused(SessionError::violation("a connection that does not start with a request"));
        };
        match self.check_open(&open, clock_unix_ms) {
            Ok((version, layout)) => {
                let request = Request { open: (*open).clone(), layout };
                self.state = State::Asked { open, version };
                Ok(request)
            }
            Err(error) => self.refused(error),
        }
    }

    /// Takes what is known of the disk; the length of the pass's disk, bytes. Next: make the session's number durable, and
    /// [`Self::handle_session`].
    pub fn handle_target(&mut self, target: Target) -> Result<u64, SessionError> {
        let State::Asked { open, version } = std::mem::replace(&mut self.state, State::Answered) else {
            panic!("a disk follows a request");
        };
        match check_target(&open, &target) {
            Ok(pass_bytes) => {
                self.state = State::Agreed { open, version, target: Box::new(target), pass_bytes };
                Ok(pass_bytes)
            }
            Err(error) => self.refused(error),
        }
    }

    /// Takes the session's number, which is durable, and its token: random, and never seen before. The answer follows.
    pub fn handle_session(
        &mut self,
        session: SessionNumber,
        token: SessionToken,
        clock_unix_ms: u64,
    ) -> Welcome {
        let agreed = std::mem::replace(&mut self.state, State::Answered);
        let State::Agreed { open, version, target, pass_bytes } = agreed else {
            panic!("a session follows an agreement");
        };
        let granted = self.options.data_connections.min(DATA_CONNECTIONS_MAX as u16);
        let welcome = Welcome {
            version,
            product: self.options.product,
            clock_unix_ms,
            capabilities: self.options.capabilities.common(open.capabilities),
            token,
            session,
            data_connections: open.data_connections.min(granted),
            length_bytes: target.length_bytes,
            pass_bytes,
            generation: target.generation,
            root: target.root.unwrap_or(Digest::ZERO),
            is_new: target.is_new,
            has_seeds: target.has_seeds,
            is_resumed: target.is_resumed,
            is_divergence_accepted: target.is_divergence_accepted,
            window_bytes: target.window_bytes,
        };
        self.transmit = Some(Message::Welcome(Box::new(welcome.clone())));
        welcome
    }

    /// Refuses for a reason of the caller's: the disk is not registered, the peer is not on its list, the store failed.
    pub fn refuse(&mut self, error: &SessionError) {
        self.state = State::Answered;
        self.transmit = Some(error.to_message());
    }

    fn refused<T>(&mut self, error: SessionError) -> Result<T, SessionError> {
        self.refuse(&error);
        Err(error)
    }

    fn check_open(&self, open: &Open, clock_unix_ms: u64) -> Result<(Version, Layout), SessionError> {
        let version = common_version(open.version_min, open.version_max)?;
        check_products(open.product, self.options.product)?;
        check_clocks(clock_unix_ms, open.clock_unix_ms)?;
        check_source_time(open)?;
        let impossible = |reason: String| SessionError { code: Code::BlockSizeInvalid, reason };
        let size = BlockSize::new(open.block_bytes.into()).map_err(|error| impossible(error.to_string()))?;
        let layout = Layout::new(open.length_bytes, size)
            .map_err(|error| SessionError { code: Code::ImageSizeUnsupported, reason: error.to_string() })?;
        Ok((version, layout))
    }
}

/// The disk can be this one and is long enough, and neither the job nor what it brings is older than what is there. The
/// length of the pass's disk.
fn check_target(open: &Open, target: &Target) -> Result<u64, SessionError> {
    let disk = format!("disk {} of {}", open.disk, open.machine);
    if target.length_bytes < open.content_end_bytes.min(open.length_bytes) {
        let reason = format!(
            "{disk} has {} bytes, the source {} of which {} are not only zeros",
            target.length_bytes, open.length_bytes, open.content_end_bytes
        );
        return Err(SessionError { code: Code::TargetTooSmall, reason });
    }
    if target.sector_bytes != open.sector_bytes {
        let reason = format!(
            "{disk} has logical sectors of {} bytes, the source of {}",
            target.sector_bytes, open.sector_bytes
        );
        return Err(SessionError { code: Code::SectorSizeDiffers, reason });
    }
    let is_other =
        !open.disk_mark.is_empty() && !target.disk_mark.is_empty() && open.disk_mark != target.disk_mark;
    if is_other && !open.accept_mismatch {
        let reason = format!("{disk} is {}, the source {}", target.disk_mark, open.disk_mark);
        return Err(SessionError { code: Code::WrongDisk, reason });
    }
    if open.epoch < target.epoch {
        let reason =
            format!("the job's epoch {} is over: disk {} has seen {}", open.epoch, open.disk, target.epoch);
        return Err(SessionError { code: Code::SourceOlder, reason });
    }
    // The answer to one seal may have been lost on the way; the next welcome made it known.
    let is_current = target.generation.0.saturating_sub(open.generation.0) <= 1;
    let is_compared = open.generation > Generation(0) && !open.accept_older && !target.is_taken_back;
    if is_compared && !is_current {
        let reason = format!(
            "the source follows generation {}, disk {} was sealed as {} since",
            open.generation, open.disk, target.generation
        );
        return Err(SessionError { code: Code::SourceOlder, reason });
    }
    Ok(open.length_bytes.min(target.length_bytes))
}
