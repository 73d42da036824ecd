//! Openings, and whole passes step by step.

use crate::Seed;
use crate::messages::frame;
use failback_fuzz_bodies::handshake_request;
use failback_model::{Digest, Generation, SessionNumber, SessionToken};
use failback_testkit::Random;
use failback_wire::{Capabilities, Message, Open, Version, Welcome};

/// Steps that move a pass: its ends say, do and hear what they want to, in order.
const HONEST: [u8; 8] = [0, 0, 1, 1, 4, 5, 6, 7];

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("handshake", "request", [vec![0], frame(&Message::Open(Box::new(handshake_request())))].concat()),
        ("handshake", "newer-request", [vec![0], frame(&Message::Open(Box::new(newer())))].concat()),
        ("handshake", "welcome", [vec![0], frame(&Message::Welcome(Box::new(welcome())))].concat()),
        ("handshake", "watched", watched()),
        ("session", "tiny", honest(0x10, 0x0e, 250, 1)),
        ("session", "seeds", honest(0x30, 0x36, 900, 2)),
        ("session", "refined", honest(0x51, 0x2f, 900, 3)),
        ("session", "large", honest(0xff, 0x19, 2500, 4)),
        ("session", "stopped", stopped()),
    ]
}

fn newer() -> Open {
    Open { version_min: 2, version_max: 9, ..handshake_request() }
}

fn welcome() -> Welcome {
    let open = handshake_request();
    Welcome {
        version: Version::V1,
        product: open.product,
        clock_unix_ms: open.clock_unix_ms,
        capabilities: Capabilities(1),
        token: SessionToken([7; 16]),
        session: SessionNumber(9),
        data_connections: 4,
        length_bytes: 1 << 31,
        pass_bytes: 1 << 30,
        generation: Generation(3),
        root: Digest::ZERO,
        is_new: false,
        has_seeds: true,
        is_resumed: true,
        is_divergence_accepted: false,
        window_bytes: 64 << 20,
    }
}

/// Silence, a question, its answer, the other end's question, goodbyes.
fn watched() -> Vec<u8> {
    let said = |message: Message| [vec![200], frame(&message)].concat();
    let steps = [
        vec![10, 11],
        said(Message::Pong { nonce: 1 }),
        said(Message::Ping { nonce: 5 }),
        vec![64, 9],
        said(Message::Bye),
        vec![96],
    ];
    steps.concat()
}

fn honest(which: u8, window: u8, steps: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![which, window];
    for _ in 0..steps {
        bytes.push(HONEST[random.below(HONEST.len() as u64) as usize]);
        // Odd: no block fails, no root differs, runs have digests.
        bytes.push(random.below(32) as u8 * 8 + 1);
    }
    bytes
}

/// A pass that time goes by in, and that both ends stop.
fn stopped() -> Vec<u8> {
    let mut bytes = honest(0x51, 0x2f, 100, 5);
    bytes.extend([12, 30, 13, 1, 14, 1]);
    bytes.extend(&honest(0, 0, 60, 6)[2..]);
    bytes
}
