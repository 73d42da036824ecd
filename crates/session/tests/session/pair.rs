//! One session of two ends on a virtual clock: it is opened, carries the pass, and ends with goodbyes, unless it is cut.
//!
//! Whatever takes time takes some: frames on their way, reading, packing, writing, committing. Only the next moment at which
//! something happens moves the clock, so a pass that can't go on is seen at once.

use crate::handshake;
use crate::net::{End, Net};
use crate::world::World;
use failback_model::{Epoch, Generation, ProductVersion, SessionNumber, SessionToken};
use failback_session::handshake::{Accepting, AcceptingOptions, Opening, Target};
use failback_session::liveness::Liveness;
use failback_session::{ReceiverWork, SenderWork, SessionError};
use failback_wire::{Capabilities, Message, Open};
use std::time::{Duration, Instant};

/// Both ends' clocks when the virtual one starts.
const CLOCK_MS: u64 = 1_763_000_000_000;

/// Events after which a session counts as endless.
const EVENTS_MAX: u64 = 200_000;

/// The network of a session, and how long work takes at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) data_connections: u16,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) work: Duration,
    pub(crate) commit: Duration,
}

/// Work that was started.
pub(crate) enum Job {
    Sending(SenderWork),
    Receiving(ReceiverWork),
}

/// A session; the sending end comes first where there are two of a kind.
pub(crate) struct Pair<'a> {
    pub(crate) world: &'a mut World,
    pace: Pace,
    pub(crate) net: Net,
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) opening: Option<Opening>,
    pub(crate) accepting: Option<Accepting>,
    /// Of an end whose session stands.
    pub(crate) lives: [Option<Liveness>; 2],
    has_said_bye: [bool; 2],
    pub(crate) jobs: Vec<(Instant, Job)>,
    scan_at: Instant,
    compare_at: Instant,
    events: u64,
    pub(crate) delivered: u64,
    pub(crate) pings: u64,
}

impl<'a> Pair<'a> {
    /// A session that is about to be asked for.
    pub(crate) fn new(world: &'a mut World, pace: Pace) -> Self {
        let now = Instant::now();
        let open = Open {
            length_bytes: world.layout.length_bytes(),
            content_end_bytes: world.layout.length_bytes(),
            block_bytes: world.layout.block_size().bytes() as u32,
            clock_unix_ms: CLOCK_MS,
            generation: Generation(world.known_generation),
            data_connections: pace.data_connections,
            product: ProductVersion::CURRENT,
            ..handshake::open()
        };
        let options = AcceptingOptions {
            product: ProductVersion::CURRENT,
            capabilities: Capabilities::OWN,
            data_connections: pace.data_connections,
        };
        world.log.clear();
        Self {
            world,
            pace,
            net: Net::new(pace.data_connections.into(), pace.delay, pace.jitter),
            start: now,
            now,
            opening: Some(Opening::new(open, now)),
            accepting: Some(Accepting::new(options, now)),
            lives: [None, None],
            has_said_bye: [false; 2],
            jobs: Vec::new(),
            scan_at: now,
            compare_at: now,
            events: 0,
            delivered: 0,
            pings: 0,
        }
    }

    /// Runs until both ends have said goodbye, or so many frames have arrived; true where it is over.
    pub(crate) fn run(&mut self, frames: u64) -> Result<bool, SessionError> {
        loop {
            self.pump();
            if self.is_over() || self.delivered >= frames {
                return Ok(self.is_over());
            }
            let is_stuck = !self.net.is_busy() && !self.can_move();
            assert!(!is_stuck, "nothing is under way and nothing to do, but the session is not over");
            self.step()?;
        }
    }

    fn is_over(&self) -> bool {
        self.lives.iter().all(|life| life.as_ref().is_some_and(Liveness::is_over))
    }

    /// Whether an end has something to do that needs no message.
    fn can_move(&self) -> bool {
        !self.jobs.is_empty() || self.may_scan() || self.may_compare() || self.group_at().is_some()
    }

    /// When the open commit group is due.
    fn group_at(&self) -> Option<Instant> {
        self.lives[1].as_ref().and_then(|_| self.world.receiver.poll_timeout())
    }

    fn may_scan(&self) -> bool {
        let is_left = self.world.scanned_below < self.world.layout.block_count();
        self.lives[1].is_some() && is_left && self.world.receiver.wants_digests()
    }

    fn may_compare(&self) -> bool {
        self.lives[0].is_some() && self.world.sender.wants_differences() && !self.world.comparisons.is_empty()
    }

    fn spend(&mut self, most: Duration) -> Instant {
        self.now + Duration::from_micros(self.world.random.below(most.as_micros() as u64 + 1))
    }

    fn send(&mut self, to: End, message: &Message) {
        self.net.send(to, message, self.now, &mut self.world.random);
    }

    /// Takes everything that the machines want to say and to start.
    pub(crate) fn pump(&mut self) {
        if let Some(message) = self.opening.as_mut().and_then(Opening::poll_transmit) {
            self.send(End::Receiving, &message);
        }
        if let Some(message) = self.accepting.as_mut().and_then(Accepting::poll_transmit) {
            self.send(End::Sending, &message);
        }
        if self.lives[0].is_some() {
            self.start_sending();
            while let Some(message) = self.world.sender.poll_transmit() {
                self.world.log.sent(self.world.layout, &message);
                self.send(End::Receiving, &message);
            }
            self.pump_life(0, End::Receiving);
        }
        if self.lives[1].is_some() {
            self.start_receiving();
            while let Some(message) = self.world.receiver.poll_transmit() {
                self.send(End::Sending, &message);
            }
            self.pump_life(1, End::Sending);
        }
    }

    fn start_sending(&mut self) {
        self.world.sender.watch(self.now).expect("the receiving end works");
        while let Some(work) = self.world.sender.poll_work() {
            match work {
                // Digests are compared in their order.
                SenderWork::Compare { .. } | SenderWork::CompareBase { .. } | SenderWork::Finish { .. } => {
                    self.world.finish_sender_job(work).expect("it cannot fail");
                }
                work => {
                    let due = self.spend(self.pace.work);
                    self.jobs.push((due, Job::Sending(work)));
                }
            }
        }
    }

    pub(crate) fn start_receiving(&mut self) {
        self.world.receiver.handle_time(self.now);
        self.world.receiver.watch(self.now).expect("the sending end works");
        while let Some(work) = self.world.receiver.poll_work() {
            self.world.start_receiver_job(&work);
            match work {
                // It is durable before it is said.
                ReceiverWork::Finish { .. } => self.world.finish_receiver_job(work),
                work => {
                    let is_commit = matches!(work, ReceiverWork::Commit | ReceiverWork::Seal { .. });
                    let due = self.spend(if is_commit { self.pace.commit } else { self.pace.work });
                    self.jobs.push((due, Job::Receiving(work)));
                }
            }
        }
    }

    fn pump_life(&mut self, own: usize, to: End) {
        let Some(life) = &mut self.lives[own] else { return };
        let mut messages: Vec<_> = std::iter::from_fn(|| life.poll_transmit()).collect();
        self.pings +=
            messages.iter().filter(|message| matches!(message, Message::Ping { .. })).count() as u64;
        // An end whose pass is sealed has said everything.
        if self.world.sealed[own].is_some() && !std::mem::replace(&mut self.has_said_bye[own], true) {
            messages.push(life.goodbye(self.now));
        }
        messages.iter().for_each(|message| self.send(to, message));
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) -> Result<(), SessionError> {
        self.events += 1;
        assert!(self.events < EVENTS_MAX, "a session without an end");
        let job = (0..self.jobs.len()).min_by_key(|&i| self.jobs[i].0);
        let times = [
            self.net.next_at(),
            job.map(|i| self.jobs[i].0),
            self.may_scan().then_some(self.scan_at),
            self.may_compare().then_some(self.compare_at),
            self.next_timeout(),
        ];
        let next = (0..times.len()).filter(|&event| times[event].is_some()).min_by_key(|&event| times[event]);
        let event = next.expect("an end that waits has a deadline");
        self.now = self.now.max(times[event].expect("it was chosen"));
        match event {
            0 => self.deliver(),
            1 => self.finish_job(job.expect("it is due")),
            2 => {
                self.world.scan();
                self.scan_at = self.spend(self.pace.work);
                Ok(())
            }
            3 => {
                self.world.compare();
                self.compare_at = self.spend(self.pace.work);
                Ok(())
            }
            _ => self.handle_time(),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let lives = self.lives.iter().flatten().filter_map(Liveness::poll_timeout);
        let opening = self.opening.as_ref().and_then(Opening::poll_timeout);
        let accepting = self.accepting.as_ref().and_then(Accepting::poll_timeout);
        lives.chain(opening).chain(accepting).chain(self.group_at()).min()
    }

    fn handle_time(&mut self) -> Result<(), SessionError> {
        self.opening.as_mut().map_or(Ok(()), |opening| opening.handle_time(self.now))?;
        self.accepting.as_mut().map_or(Ok(()), |accepting| accepting.handle_time(self.now))?;
        self.lives.iter_mut().flatten().try_for_each(|life| life.handle_time(self.now))
    }

    fn finish_job(&mut self, index: usize) -> Result<(), SessionError> {
        match self.jobs.swap_remove(index).1 {
            Job::Sending(work) => self.world.finish_sender_job(work),
            Job::Receiving(work) => {
                self.world.finish_receiver_job(work);
                Ok(())
            }
        }
    }

    fn clock_ms(&self) -> u64 {
        CLOCK_MS + (self.now - self.start).as_millis() as u64
    }

    fn deliver(&mut self) -> Result<(), SessionError> {
        let Some((to, message)) = self.net.take() else { return Ok(()) };
        self.delivered += 1;
        let is_of_link = matches!(message, Message::Ping { .. } | Message::Pong { .. } | Message::Bye);
        match &mut self.lives[to as usize] {
            None if to == End::Receiving => self.accept(message),
            None => self.take_answer(message),
            Some(life) if is_of_link => life.handle_message(&message, self.now),
            Some(life) => {
                life.handle_received(self.now);
                match to {
                    End::Receiving => self.world.receiver.handle_message(message),
                    End::Sending => {
                        self.world.log.received(&message);
                        self.world.sender.handle_message(message)
                    }
                }
            }
        }
    }

    fn accept(&mut self, message: Message) -> Result<(), SessionError> {
        let mut accepting = self.accepting.take().expect("until the session stands");
        accepting.handle_message(message, self.clock_ms())?;
        let durable = &mut self.world.durable;
        accepting.handle_target(Target {
            length_bytes: self.world.layout.length_bytes(),
            epoch: Epoch(0),
            generation: Generation(durable.generation),
            root: durable.root,
            is_new: false,
            has_seeds: self.world.receiver_options.has_seeds,
            is_resumed: durable.session > 0,
            window_bytes: self.world.receiver_options.window_bytes,
            ..handshake::target()
        })?;
        durable.session += 1;
        let session = SessionNumber(durable.session);
        accepting.handle_session(session, SessionToken([1; 16]), self.clock_ms());
        let answer = accepting.poll_transmit().expect("the answer");
        self.send(End::Sending, &answer);
        self.lives[1] = Some(Liveness::new(self.now));
        Ok(())
    }

    fn take_answer(&mut self, message: Message) -> Result<(), SessionError> {
        let mut opening = self.opening.take().expect("until the session stands");
        let welcome = opening.handle_message(message, self.clock_ms())?;
        assert_eq!(welcome.session, SessionNumber(self.world.durable.session));
        self.world.known_generation = welcome.generation.0;
        self.lives[0] = Some(Liveness::new(self.now));
        Ok(())
    }
}
