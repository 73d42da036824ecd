//! The network between two ends on a virtual clock: a control connection, data connections, delay, and the end of it all.
//!
//! Frames of one stream arrive in their order. What is [`Class::Urgent`] is a stream of its own, since it may overtake on
//! the control connection.

use crate::link::decode;
use failback_testkit::Random;
use failback_wire::{Class, Frame, Message};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Which end a frame is on its way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Sending,
    Receiving,
}

const ORDERED: usize = 0;
const URGENT: usize = 1;

/// Frames that arrive one after the other.
#[derive(Default)]
struct Stream {
    frames: VecDeque<(Instant, Frame)>,
    last_at: Option<Instant>,
}

impl Stream {
    fn push(&mut self, at: Instant, frame: Frame) {
        let at = self.last_at.map_or(at, |last| last.max(at));
        self.last_at = Some(at);
        self.frames.push_back((at, frame));
    }
}

/// Both directions.
pub(crate) struct Net {
    to: [Vec<Stream>; 2],
    delay: Duration,
    jitter: Duration,
    is_silent: bool,
}

impl Net {
    /// One control connection and so many data connections.
    pub(crate) fn new(data_connections: usize, delay: Duration, jitter: Duration) -> Self {
        let streams = || (0..2 + data_connections).map(|_| Stream::default()).collect();
        Self { to: [streams(), streams()], delay, jitter, is_silent: false }
    }

    pub(crate) fn send(&mut self, to: End, message: &Message, now: Instant, random: &mut Random) {
        if self.is_silent {
            return;
        }
        let streams = &mut self.to[to as usize];
        let bulk = streams.len() - 2;
        let stream = match (message.class(), message) {
            (Class::Bulk, _) if bulk > 0 => 2 + random.below(bulk as u64) as usize,
            (Class::Urgent, _) | (_, Message::Ping { .. } | Message::Pong { .. }) => URGENT,
            _ => ORDERED,
        };
        let jitter = Duration::from_micros(random.below(self.jitter.as_micros() as u64 + 1));
        let mut at = now + self.delay + jitter;
        if *message == Message::Bye {
            // The last word on the control connection.
            at = at.max(streams[URGENT].last_at.unwrap_or(at));
        }
        streams[stream].push(at, message.encode());
    }

    /// When the next frame arrives.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.first().map(|(at, _, _)| at)
    }

    /// Whether something other than pings is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        let is_ping = |frame: &Frame| matches!(decode(frame), Message::Ping { .. } | Message::Pong { .. });
        self.to.iter().flatten().flat_map(|stream| &stream.frames).any(|(_, frame)| !is_ping(frame))
    }

    /// The next frame.
    pub(crate) fn take(&mut self) -> Option<(End, Message)> {
        let (_, to, stream) = self.first()?;
        let (_, frame) = self.to[to as usize][stream].frames.pop_front()?;
        Some((to, decode(&frame)))
    }

    /// Loses what is on its way; the frames that were to arrive at this end.
    pub(crate) fn cut(&mut self, to: End) -> Vec<Message> {
        let streams = std::mem::take(&mut self.to);
        let frames = streams.into_iter().nth(to as usize).expect("two directions");
        frames.into_iter().flat_map(|stream| stream.frames).map(|(_, frame)| decode(&frame)).collect()
    }

    /// Nothing arrives any more, and nobody is told.
    pub(crate) fn fall_silent(&mut self) {
        self.is_silent = true;
        self.to.iter_mut().flatten().for_each(|stream| stream.frames.clear());
    }

    fn first(&self) -> Option<(Instant, End, usize)> {
        let heads = |end: End| {
            let streams = self.to[end as usize].iter().enumerate();
            streams.filter_map(move |(i, stream)| stream.frames.front().map(|(at, _)| (*at, end, i)))
        };
        heads(End::Sending).chain(heads(End::Receiving)).min_by_key(|(at, _, _)| *at)
    }
}
