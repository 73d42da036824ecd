//! The opening of a session and the watch over its connection: any messages at any time, to both ends.
//!
//! The bytes are steps: what happens, and what it needs; frames among them are frames as they cross.

use bytes::Bytes;
use failback_model::limits::{CLOCK_SKEW_MAX, SETUP_FRAME_MAX_BYTES};
use failback_model::{
    Code, Digest, DiskId, Epoch, Generation, JobId, MachineId, PointClaim, PointLabel, ProductVersion,
    SessionNumber, SessionToken,
};
use failback_session::SessionError;
use failback_session::handshake::{Accepting, AcceptingOptions, Opening, Target};
use failback_session::liveness::Liveness;
use failback_wire::{Capabilities, Frame, Message, Open, Welcome};
use std::time::{Duration, Instant};

const CLOCK_MS: u64 = 1_763_000_000_000;
const PRODUCT: ProductVersion = ProductVersion { major: 1, minor: 0, patch: 0 };

/// Takes steps off the front.
struct Steps(Bytes);

impl Steps {
    fn byte(&mut self) -> Option<u8> {
        let &byte = self.0.first()?;
        self.0 = self.0.slice(1..);
        Some(byte)
    }

    fn message(&mut self) -> Option<Message> {
        let (frame, rest) = Frame::split_from(&self.0).ok()?;
        self.0 = rest;
        Message::decode(&frame).ok()
    }
}

/// The request that the corpus answers to.
pub fn handshake_request() -> Open {
    Open {
        version_min: 1,
        version_max: 1,
        product: PRODUCT,
        clock_unix_ms: CLOCK_MS,
        machine: MachineId::new("m").expect("an id"),
        disk: DiskId::new("d").expect("an id"),
        length_bytes: 1 << 30,
        content_end_bytes: 1 << 29,
        block_bytes: 65_536,
        sector_bytes: 512,
        disk_mark: "MBR 01".into(),
        generation: Generation(3),
        root: Digest::ZERO,
        epoch: Epoch(2),
        capabilities: Capabilities(1),
        data_connections: 4,
        verify: false,
        accept_older: false,
        accept_mismatch: false,
        accept_divergence: false,
        job: JobId::new("j").expect("an id"),
        claim: PointClaim::new(CLOCK_MS, PointLabel::PerDisk, "3 disks, and no hook"),
        sample: Vec::new(),
    }
}

fn target(kind: u8) -> Target {
    Target {
        length_bytes: (1 << 28) << (kind & 3),
        sector_bytes: if kind & 4 == 0 { 512 } else { 4096 },
        disk_mark: if kind & 8 == 0 { "MBR 01".into() } else { String::new() },
        epoch: Epoch(u64::from(kind >> 4 & 3)),
        generation: Generation(u64::from(kind >> 6) * 2),
        root: None,
        is_new: false,
        has_seeds: false,
        is_resumed: false,
        is_divergence_accepted: false,
        is_taken_back: false,
        window_bytes: 64 << 20,
    }
}

/// Both ends of the opening, then the watch over a connection.
pub fn handshake(data: &[u8]) {
    let mut steps = Steps(Bytes::copy_from_slice(data));
    accept(&mut steps);
    let mut steps = Steps(Bytes::copy_from_slice(data));
    open(&mut steps);
    watch(&mut Steps(Bytes::copy_from_slice(data)));
}

fn accept(steps: &mut Steps) {
    let options = AcceptingOptions { product: PRODUCT, capabilities: Capabilities(3), data_connections: 4 };
    let start = Instant::now();
    let mut accepting = Accepting::new(options, start);
    let Some(kind) = steps.byte() else { return };
    if kind & 1 == 1 && accepting.handle_time(start + Duration::from_secs(kind.into())).is_err() {
        return assert_refused(&mut accepting, None);
    }
    let Some(message) = steps.message() else { return };
    let request = match accepting.handle_message(message, CLOCK_MS) {
        Ok(request) => request,
        Err(error) => return assert_refused(&mut accepting, Some(&error)),
    };
    assert!(accepting.poll_transmit().is_none() && accepting.poll_timeout().is_none());
    if let Some(message) = steps.message() {
        let error = accepting.handle_message(message, CLOCK_MS).expect_err("a second request");
        return assert_refused(&mut accepting, Some(&error));
    }
    let pass_bytes = match accepting.handle_target(target(kind)) {
        Ok(pass_bytes) => pass_bytes,
        Err(error) => return assert_refused(&mut accepting, Some(&error)),
    };
    let welcome = accepting.handle_session(SessionNumber(1), SessionToken([7; 16]), CLOCK_MS);
    assert_eq!(accepting.poll_transmit(), Some(Message::Welcome(Box::new(welcome.clone()))));
    assert!(request.open.epoch >= target(kind).epoch);
    assert!(pass_bytes <= target(kind).length_bytes && welcome.pass_bytes == pass_bytes);
    assert_within(&request.open, &welcome);
}

/// What is refused is said, once, with the code that was seen.
fn assert_refused(accepting: &mut Accepting, error: Option<&SessionError>) {
    let answer = accepting.poll_transmit().expect("a refusal is said");
    assert!(answer.encode().encoded_bytes() <= SETUP_FRAME_MAX_BYTES as u64);
    assert!(error.is_none_or(|error| answer == error.to_message()), "{answer:?}");
    assert!(accepting.poll_transmit().is_none());
}

/// An answer stays within the request.
fn assert_within(open: &Open, welcome: &Welcome) {
    assert!((open.version_min..=open.version_max).contains(&welcome.version.number()));
    assert!(welcome.product <= open.product && welcome.data_connections <= open.data_connections);
    assert_eq!(welcome.capabilities.common(open.capabilities), welcome.capabilities);
    assert!(welcome.pass_bytes >= open.content_end_bytes.min(open.length_bytes));
}

fn open(steps: &mut Steps) {
    let request = handshake_request();
    let mut opening = Opening::new(request.clone(), Instant::now());
    assert!(opening.poll_transmit().is_some() && opening.poll_transmit().is_none());
    steps.byte();
    let Some(message) = steps.message() else { return };
    match opening.handle_message(message, CLOCK_MS) {
        Ok(welcome) => {
            assert_within(&request, &welcome);
            let skew_ms = u128::from(welcome.clock_unix_ms.abs_diff(CLOCK_MS));
            assert!(skew_ms <= CLOCK_SKEW_MAX.as_millis());
        }
        Err(error) => assert!(!error.reason.is_empty() || error.code != Code::ProtocolViolation),
    }
    assert!(opening.poll_timeout().is_none());
    if let Some(message) = steps.message() {
        assert!(opening.handle_message(message, CLOCK_MS).is_err(), "one answer");
    }
}

fn watch(steps: &mut Steps) {
    let mut now = Instant::now();
    let mut liveness = Liveness::new(now);
    let mut has_said_bye = false;
    while let Some(step) = steps.byte() {
        let outcome = match step {
            0..64 => {
                now += Duration::from_secs(step.into());
                liveness.handle_time(now)
            }
            64..96 => {
                liveness.handle_received(now);
                Ok(())
            }
            96..104 => {
                has_said_bye = true;
                assert_eq!(liveness.goodbye(now), Message::Bye);
                Ok(())
            }
            _ => match steps.message() {
                Some(message) => liveness.handle_message(&message, now),
                None => Ok(()),
            },
        };
        if outcome.is_err() {
            return;
        }
        assert_eq!(liveness.handle_closed("closed").is_ok(), liveness.has_left());
        // After the time was told, the next moment to look lies ahead: nothing spins.
        if liveness.handle_time(now).is_ok() {
            assert!(liveness.poll_timeout().is_none_or(|at| at > now));
        }
        let said: Vec<_> = std::iter::from_fn(|| liveness.poll_transmit()).collect();
        assert!(said.len() <= 2 && (said.is_empty() || !has_said_bye), "{said:?}");
    }
}
