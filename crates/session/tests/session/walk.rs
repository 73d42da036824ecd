//! A walk: events happen in a random order until both ends are done, and what must hold on the way is watched.

use crate::world::{Setup, World};
use failback_session::{Job, ReceiverWork, SenderWork, SessionError};
use failback_testkit::Random;
use failback_wire::{Data, Encoding, Message};
use std::collections::{BTreeSet, HashMap};

/// Events after which a walk counts as endless.
const EVENTS_MAX: u64 = 200_000;

/// Everything that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    ControlToTarget,
    OtherToTarget,
    ControlToSource,
    OtherToSource,
    SenderJob,
    ReceiverJob,
    Compare,
    Scan,
}

/// All of it.
pub(crate) const EVENTS: [Event; 8] = [
    Event::ControlToTarget,
    Event::OtherToTarget,
    Event::ControlToSource,
    Event::OtherToSource,
    Event::SenderJob,
    Event::ReceiverJob,
    Event::Compare,
    Event::Scan,
];

/// A walk, and what it watches.
pub(crate) struct Walk {
    pub(crate) world: World,
    /// How eager each event is: some streams and stages lag far behind others.
    pub(crate) eagerness: [u64; EVENTS.len()],
    window_bytes: u64,
    largest_job_bytes: u64,
    open_job_bytes: HashMap<Job, u64>,
    unwritten_bytes: HashMap<u64, u64>,
    applied: BTreeSet<u64>,
    committing: BTreeSet<u64>,
    durable: BTreeSet<u64>,
    numbered: u64,
    /// Digests of the target's scan that came, and blocks that were named instead.
    pub(crate) streamed: u64,
    pub(crate) left_out: u64,
    /// In how many of a thousand events a stranger speaks; what honest ends keep is then not watched.
    pub(crate) strangers_permille: u64,
}

impl Walk {
    pub(crate) fn new(setup: Setup, mut random: Random) -> Self {
        let eagerness = std::array::from_fn(|_| 1 << random.below(7));
        let window_bytes = setup.window_bytes;
        Self {
            world: World::new(setup, random),
            eagerness,
            window_bytes,
            largest_job_bytes: 0,
            open_job_bytes: HashMap::new(),
            unwritten_bytes: HashMap::new(),
            applied: BTreeSet::new(),
            committing: BTreeSet::new(),
            durable: BTreeSet::new(),
            numbered: 0,
            streamed: 0,
            left_out: 0,
            strangers_permille: 0,
        }
    }

    /// Walks until both ends have finished and nothing is on its way, or one end fails.
    pub(crate) fn run(&mut self) -> Result<(), SessionError> {
        for _ in 0..EVENTS_MAX {
            if self.world.random.below(2) == 0 {
                self.pump();
            }
            if self.world.random.below(1000) < self.strangers_permille {
                self.world.let_a_stranger_speak()?;
            }
            if !self.step()? {
                self.pump();
                if !self.step()? {
                    let is_sealed = self.world.sealed.iter().all(Option::is_some);
                    assert!(is_sealed || !self.is_watched(), "nothing can happen, but no seal");
                    return Ok(());
                }
            }
        }
        panic!("a walk without an end");
    }

    fn is_watched(&self) -> bool {
        self.strangers_permille == 0
    }

    /// Takes everything that the machines want to send and to start.
    fn pump(&mut self) {
        while let Some(work) = self.world.sender.poll_work() {
            self.watch_sender_work(&work);
            self.world.sender_jobs.push(work);
        }
        while let Some(work) = self.world.receiver.poll_work() {
            let jobs = &self.world.receiver_jobs;
            match work {
                ReceiverWork::Commit => self.committing = self.applied.clone(),
                ReceiverWork::Seal { .. } => {
                    assert!(jobs.is_empty() || !self.is_watched(), "seals alone: {jobs:?}")
                }
                _ => {}
            }
            self.world.start_receiver_job(&work);
            self.world.receiver_jobs.push(work);
        }
        while let Some(message) = self.world.sender.poll_transmit() {
            self.watch_sent(&message);
            self.world.to_target.send(&message);
        }
        while let Some(message) = self.world.receiver.poll_transmit() {
            match &message {
                Message::Digests { digests, .. } => self.streamed += digests.len() as u64 / 16,
                Message::KnownDigests { blocks } => self.left_out += blocks.count(),
                _ => {}
            }
            if let Message::Acknowledged { below } = message {
                let is_durable = (0..below).all(|sequence| self.durable.contains(&sequence));
                assert!(is_durable || !self.is_watched(), "not all below {below} is durable");
            }
            self.world.to_source.send(&message);
        }
    }

    /// Lets one event happen; false where there is none.
    fn step(&mut self) -> Result<bool, SessionError> {
        let possible = EVENTS.map(|event| self.is_possible(event));
        let weight = |index: usize| if possible[index] { self.eagerness[index] } else { 0 };
        let total = (0..EVENTS.len()).map(weight).sum();
        if total == 0 {
            return Ok(false);
        }
        let mut draw = self.world.random.below(total);
        let index = (0..EVENTS.len()).find(|&index| match draw.checked_sub(weight(index)) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        });
        self.happen(EVENTS[index.expect("the draw is below the sum")])?;
        Ok(true)
    }

    fn is_possible(&self, event: Event) -> bool {
        let world = &self.world;
        match event {
            Event::ControlToTarget => world.to_target.has_control(),
            Event::OtherToTarget => world.to_target.has_others(),
            Event::ControlToSource => world.to_source.has_control(),
            Event::OtherToSource => world.to_source.has_others(),
            Event::SenderJob => !world.sender_jobs.is_empty(),
            Event::ReceiverJob => !world.receiver_jobs.is_empty(),
            Event::Compare => world.sender.wants_differences() && !world.comparisons.is_empty(),
            Event::Scan => world.receiver.wants_digests() && world.scanned_below < world.layout.block_count(),
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), SessionError> {
        let world = &mut self.world;
        match event {
            Event::ControlToTarget => {
                world.to_target.take_control().map(|m| world.receiver.handle_message(m))
            }
            Event::OtherToTarget => {
                world.to_target.take_other(&mut world.random).map(|m| world.receiver.handle_message(m))
            }
            Event::ControlToSource => world.to_source.take_control().map(|m| world.sender.handle_message(m)),
            Event::OtherToSource => world.to_source.take_other(&mut world.random).map(|message| {
                if let Message::Written { sequence, .. } = message {
                    self.unwritten_bytes.remove(&sequence);
                }
                world.sender.handle_message(message)
            }),
            Event::SenderJob => return self.finish_sender_job(),
            Event::ReceiverJob => {
                self.finish_receiver_job();
                None
            }
            Event::Compare => {
                world.compare();
                None
            }
            Event::Scan => {
                world.scan();
                None
            }
        }
        .unwrap_or(Ok(()))
    }

    fn finish_sender_job(&mut self) -> Result<(), SessionError> {
        // The order in which the target's digests come is the order in which they are compared; all else may overtake.
        let jobs = &self.world.sender_jobs;
        let index = self.world.random.below(jobs.len() as u64) as usize;
        let is_comparison =
            |job: &SenderWork| matches!(job, SenderWork::Compare { .. } | SenderWork::CompareBase { .. });
        let index =
            if is_comparison(&jobs[index]) { jobs.iter().position(is_comparison) } else { Some(index) };
        let job = self.world.sender_jobs.remove(index.expect("there is one"));
        if let Some((job, _)) = credited(&job) {
            self.open_job_bytes.remove(&job);
        }
        self.world.finish_sender_job(job)
    }

    fn finish_receiver_job(&mut self) {
        let index = self.world.random.below(self.world.receiver_jobs.len() as u64) as usize;
        let job = self.world.receiver_jobs.swap_remove(index);
        match &job {
            ReceiverWork::Commit => self.durable.append(&mut self.committing),
            ReceiverWork::Seal { .. } => self.durable.extend(&self.applied),
            ReceiverWork::Apply(data) => _ = self.applied.insert(data.sequence),
            ReceiverWork::Zero { sequence, .. } | ReceiverWork::Reference { sequence, .. } => {
                self.applied.insert(*sequence);
            }
            _ => {}
        }
        self.world.finish_receiver_job(job);
    }

    fn watch_sender_work(&mut self, work: &SenderWork) {
        let Some((job, blocks)) = credited(work) else { return };
        let bytes = blocks * self.world.layout.block_size().bytes();
        self.largest_job_bytes = self.largest_job_bytes.max(bytes);
        self.open_job_bytes.insert(job, bytes);
        self.check_credit();
    }

    fn watch_sent(&mut self, message: &Message) {
        match message {
            Message::Data(data) => _ = self.unwritten_bytes.insert(data.sequence, content_bytes(data)),
            Message::References { sequence, offers } => {
                let bytes = offers.len() as u64 * self.world.layout.block_size().bytes();
                self.largest_job_bytes = self.largest_job_bytes.max(self.world.layout.block_size().bytes());
                self.unwritten_bytes.insert(*sequence, bytes);
            }
            Message::Zero { .. } => {}
            _ => return,
        }
        self.numbered += 1;
        self.check_credit();
    }

    fn check_credit(&self) {
        let under_way: u64 = self.open_job_bytes.values().chain(self.unwritten_bytes.values()).sum();
        let most = self.window_bytes.max(self.largest_job_bytes);
        assert!(under_way <= most || !self.is_watched(), "{under_way} bytes under way");
    }

    /// Both ends sealed the source's root, and the target is the source.
    pub(crate) fn assert_sealed(&self) {
        let world = &self.world;
        assert_eq!(world.sealed, [Some(world.source_root()); 2]);
        assert_eq!(world.source, world.target);
        assert_eq!(world.sender.acknowledged_below(), self.numbered);
        assert!(self.unwritten_bytes.is_empty() && self.open_job_bytes.is_empty());
    }
}

/// What the other end holds of a message once it is unpacked.
fn content_bytes(data: &Data) -> u64 {
    match data.encoding {
        Encoding::Raw => data.payload.len() as u64,
        Encoding::Zstd { content_bytes } => u64::from(content_bytes),
    }
}

/// The number and size of work that was given credit, in blocks.
fn credited(work: &SenderWork) -> Option<(Job, u64)> {
    match work {
        SenderWork::Ship { job, blocks } | SenderWork::Patch { job, blocks, .. } => {
            Some((*job, blocks.len() as u64))
        }
        _ => None,
    }
}
