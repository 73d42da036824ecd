//! Sessions that are cut at every frame, in every way, and the session that goes on: it seals the same state, and sends again
//! no more than the open groups and one window.

use crate::disk::{HIDDEN, PAGES, layout_of, pair};
use crate::durable::Leftover;
use crate::explore::naming;
use crate::net::End;
use crate::pair::{Job, Pace, Pair};
use crate::world::{Setup, Troubles, World};
use failback_model::limits::{GROUP_MAX_BYTES, IDLE_MAX, WELCOME_MAX};
use failback_model::{BlockIndex, Code};
use failback_session::{ReceiverWork, RefinementMode, SessionError};
use failback_testkit::Random;
use std::collections::BTreeSet;
use std::time::Duration;

/// How a session is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The connection closes, and both ends see it.
    Closed,
    /// Nothing arrives any more; both ends find out by the clock.
    Silent,
    /// The receiving end is killed.
    Killed(Leftover),
    /// A newer session is opened while the receiving end believes in this one.
    Replaced,
}

const CUTS: [Cut; 6] = [
    Cut::Closed,
    Cut::Silent,
    Cut::Killed(Leftover::Old),
    Cut::Killed(Leftover::New),
    Cut::Killed(Leftover::Torn),
    Cut::Replaced,
];

/// What must hold of a session that follows a cut one.
#[derive(Debug, Default)]
struct Allowance {
    /// Sent by the session that was cut.
    sent: BTreeSet<BlockIndex>,
    /// May be sent again.
    resent: BTreeSet<BlockIndex>,
}

/// Seeds of each test.
const SEEDS: u64 = 60;
/// Blocks of a full commit group.
const GROUP_BLOCKS: u64 = 5;

/// A small pass of this seed: every kind of difference, each kind of answer, several sizes.
fn world(seed: u64) -> (World, Pace) {
    let mut random = Random::part(seed, 7);
    let block_bytes = (16 << 10) << [0, 0, 2, 4][random.below(4) as usize];
    let layout = layout_of(block_bytes, random.below(60), random.below(block_bytes));
    let differing_percent = [10, 40, 100][random.below(3) as usize];
    let (source, mut target) = pair(&mut random, layout, differing_percent);
    // Either blocks that fail once, or some whose difference shows late: both at once are a pass that fails.
    let failures = [0, 20][random.below(2) as usize];
    for _ in 0..random.below(4) {
        let block = random.below(target.len().max(1) as u64) as usize;
        let page = random.below(PAGES as u64) as usize;
        if failures == 0 && target.get(block).is_some_and(|values| values[page] != 0) {
            target[block][page] |= HIDDEN;
        }
    }
    let window_bytes = block_bytes * (1 + random.below(4));
    let refinement = [RefinementMode::On, RefinementMode::Off][random.below(2) as usize];
    let has_seeds = random.below(3) == 0;
    let troubles = Troubles { seed_misses: random.below(101), failures, ..Troubles::default() };
    let milliseconds = |random: &mut Random, below| Duration::from_millis(random.below(below));
    let pace = Pace {
        data_connections: random.below(4) as u16,
        delay: milliseconds(&mut random, 100),
        jitter: milliseconds(&mut random, 60),
        work: milliseconds(&mut random, 80),
        commit: milliseconds(&mut random, 1000),
    };
    let base = (random.below(2) == 0).then(|| target.clone());
    let is_at_seal = base.is_some();
    let setup =
        Setup { layout, source, target, window_bytes, refinement, has_seeds, is_at_seal, base, troubles };
    let mut world = World::new(setup, random);
    world.group_scale = Some(GROUP_MAX_BYTES / (GROUP_BLOCKS * block_bytes));
    (world.known_generation, world.durable.generation) = (3, 3);
    (world, pace)
}

impl World {
    /// Both ends sealed the source's state, the target is the source, and all of it is durable.
    fn assert_over(&self) {
        let root = self.source_root();
        assert_eq!(self.sealed, [Some(root); 2]);
        assert_eq!(self.source, self.target);
        assert_eq!((self.durable.root, self.durable.begun().len()), (Some(root), 0));
        assert_eq!(self.known_generation, self.durable.generation);
    }

    /// What the next session may send again: what the open groups hold, and what is under way. Neither is more than its
    /// bound.
    fn allowance(&self) -> Allowance {
        let block_bytes = self.layout.block_size().bytes();
        let window_bytes = self.sender_options.window_bytes.max(block_bytes);
        let begun: BTreeSet<_> =
            self.durable.begun().into_iter().map(|block| BlockIndex(block as u64)).collect();
        assert!(self.log.under_way_bytes() <= window_bytes, "more than the window is under way");
        let open: BTreeSet<_> = begun.intersection(&self.log.sent).copied().collect();
        // A group is full, and then what was in hand still comes in.
        let groups_bytes = 2 * (GROUP_BLOCKS * block_bytes + window_bytes);
        assert!(open.len() as u64 * block_bytes <= groups_bytes, "{} blocks are not durable", open.len());
        let resent = open.union(&self.log.under_way()).copied().collect();
        Allowance { sent: self.log.sent.clone(), resent }
    }

    /// The session that follows kept within what it was allowed.
    fn assert_within(&self, allowance: &Allowance) {
        let resent: BTreeSet<_> = allowance.sent.intersection(&self.log.sent).copied().collect();
        assert!(resent.is_subset(&allowance.resent), "{resent:?} of {allowance:?}");
    }
}

/// Runs a session to so many frames and cuts it; `None` where it was over before.
fn run_and_cut(world: &mut World, pace: Pace, frames: u64, cut: Cut) -> Option<Allowance> {
    let mut pair = Pair::new(world, pace);
    if pair.run(frames).expect("neither end fails") {
        return None;
    }
    let allowance = pair.world.allowance();
    match cut {
        Cut::Closed => {
            for life in pair.lives.iter().flatten() {
                let code = life.handle_closed("reset").map_err(|error| error.code);
                assert!(life.has_left() || code == Err(Code::ConnectionLost));
            }
            drain(pair);
        }
        Cut::Silent => {
            wait_in_silence(&mut pair);
            drain(pair);
        }
        Cut::Killed(leftover) => {
            leave_jobs(&mut pair, leftover);
            pair.world.reopen(Some(leftover));
        }
        Cut::Replaced => replace(pair),
    }
    Some(allowance)
}

/// Both ends go on until the clock tells each that the other is gone.
fn wait_in_silence(pair: &mut Pair<'_>) {
    pair.net.fall_silent();
    let since = pair.now;
    loop {
        for life in &mut pair.lives {
            // Who has heard the goodbye waits for nothing.
            life.take_if(|life| life.has_left());
        }
        if pair.lives.iter().all(Option::is_none) && pair.opening.is_none() && pair.accepting.is_none() {
            break;
        }
        pair.pump();
        let Err(error) = pair.step() else { continue };
        assert_eq!(error.code, Code::TimedOut, "{error}");
        let now = pair.now;
        let is_gone = |outcome: Result<(), SessionError>| outcome.is_err();
        pair.lives.iter_mut().for_each(|life| _ = life.take_if(|life| is_gone(life.handle_time(now))));
        pair.opening.take_if(|opening| is_gone(opening.handle_time(now)));
        pair.accepting.take_if(|accepting| accepting.poll_timeout().is_none());
    }
    assert!(pair.now - since <= IDLE_MAX.max(WELCOME_MAX), "silence is noticed in time");
}

/// The receiving end writes and commits what it took in, and stops.
fn drain(mut pair: Pair<'_>) {
    pair.world.receiver.stop();
    loop {
        pair.start_receiving();
        while pair.world.receiver.poll_transmit().is_some() {}
        if pair.world.receiver.is_stopped() {
            break;
        }
        pair.jobs.retain(|(_, job)| matches!(job, Job::Receiving(_)));
        let next = (0..pair.jobs.len()).min_by_key(|&i| pair.jobs[i].0);
        let (at, job) = pair.jobs.swap_remove(next.expect("an end that is not done has something to do"));
        pair.now = pair.now.max(at);
        let Job::Receiving(work) = job else { continue };
        pair.world.finish_receiver_job(work);
    }
    pair.world.reopen(None);
}

/// Work that was started may have come through before the kill.
fn leave_jobs(pair: &mut Pair<'_>, leftover: Leftover) {
    for (_, job) in std::mem::take(&mut pair.jobs) {
        let comes_through = match leftover {
            Leftover::Old => false,
            Leftover::New => true,
            Leftover::Torn => pair.world.random.below(2) == 0,
        };
        match job {
            Job::Receiving(ReceiverWork::Seal { .. }) if comes_through => pair.world.durable.commit(),
            Job::Receiving(work) if comes_through => pair.world.finish_receiver_job(work),
            _ => {}
        }
    }
}

/// A newer session comes: what the older one has still buffered has no effect, and what it had taken in is kept.
fn replace(mut pair: Pair<'_>) {
    let world = &mut *pair.world;
    world.receiver.stop();
    if pair.lives[1].is_some() {
        for message in pair.net.cut(End::Receiving) {
            world.receiver.handle_message(message).expect("ignored");
        }
    }
    drain(pair);
}

/// Runs a session to its end.
fn run_to_end(world: &mut World, pace: Pace) -> (u64, u64) {
    let mut pair = Pair::new(world, pace);
    assert!(pair.run(u64::MAX).expect("neither end fails"));
    (pair.delivered, pair.pings)
}

/// A session that is cut, and the one that goes on; how many blocks were sent again.
fn cut_and_go_on(seed: u64, cut: Cut, at: u64) -> usize {
    let (mut world, pace) = world(seed);
    let allowance = run_and_cut(&mut world, pace, at, cut).expect("it is not over yet");
    let is_sealed = world.durable.root.is_some();
    run_to_end(&mut world, pace);
    world.assert_over();
    world.assert_within(&allowance);
    assert!(!is_sealed || world.log.sent.is_empty(), "sent though it was sealed");
    let is_orderly = !matches!(cut, Cut::Killed(_));
    assert!(!is_orderly || world.scans.values().all(|&scans| scans == 1), "nothing is scanned twice");
    allowance.sent.intersection(&world.log.sent).count()
}

#[test]
fn a_session_cut_at_any_frame_is_made_good_by_the_next() {
    let (mut cuts, mut resent) = (0, 0);
    for seed in 0..SEEDS {
        let (mut uncut, pace) = world(seed);
        let (frames, _) = naming(&format!("seed {seed}"), || run_to_end(&mut uncut, pace));
        uncut.assert_over();
        for cut in CUTS {
            for at in 0..frames {
                let what = format!("seed {seed}, {cut:?} at frame {at} of {frames}");
                resent += naming(&what, || cut_and_go_on(seed, cut, at));
                cuts += 1;
            }
        }
    }
    assert!(cuts > 5000 && resent > 2000, "{cuts} cuts, {resent} blocks sent again");
}

#[test]
fn a_pass_of_many_cut_sessions_ends_in_the_same_state() {
    let mut sessions = 0;
    for seed in 0..4 * SEEDS {
        naming(&format!("seed {seed}"), || {
            let mut random = Random::part(seed, 8);
            let (mut uncut, pace) = world(seed);
            let (frames, _) = run_to_end(&mut uncut, pace);
            let (mut world, _) = world(seed);
            let mut allowance = Allowance::default();
            for _ in 0..random.below(12) {
                let cut = CUTS[random.below(CUTS.len() as u64) as usize];
                let at = random.below(frames);
                let Some(next) = run_and_cut(&mut world, pace, at, cut) else { break };
                world.assert_within(&allowance);
                allowance = next;
                sessions += 1;
            }
            world.reopen(None);
            run_to_end(&mut world, pace);
            world.assert_over();
            world.assert_within(&allowance);
        });
    }
    assert!(sessions > 500, "{sessions} sessions were cut");
}

#[test]
fn slow_ends_are_asked_whether_they_are_there() {
    let mut pinged = 0;
    for seed in 0..SEEDS {
        naming(&format!("seed {seed}"), || {
            let (mut world, pace) = world(seed);
            let slow = |part: Duration| part * 300;
            let pace =
                Pace { delay: pace.delay * 20, work: slow(pace.work), commit: slow(pace.commit), ..pace };
            pinged += u64::from(run_to_end(&mut world, pace).1 > 0);
            world.assert_over();
        });
    }
    assert!(pinged > SEEDS / 2, "{pinged} sessions were silent for a while");
}
