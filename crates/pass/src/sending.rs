//! The sending end of a pass: one loop that owns the session machine, the comparison and the source's manifest, and
//! threads that scan, read again and pack for it.
//!
//! **Invariant**: only the loop touches the machine and the manifest; everything else talks to it through channels, and
//! the machine's credit bounds what is in them.

use crate::api::{Cancel, PassError, PassOptions, Progress};
use crate::guarded::PanicGuard;
use crate::kept::Kept;
use crate::link::{Link, decode};
use crate::ship::{Packed, Shipper};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use failback_blockio::{BufferPool, DiskError, Operation, UnitSource};
use failback_engine::manifest::Manifest;
use failback_engine::{
    Comparer, DigestRun, DigestSource, Known, PartlyTrusted, Scan, ScanEnd, ScanLog, TargetDigests,
    TargetRun, TrustedDigests,
};
use failback_model::limits::{SEGMENT_MAX_BYTES, STOP_ACKNOWLEDGED_MAX, STOP_MAX};
use failback_model::{BlockIndex, BlockRange, ChunkIndex, Code, Digest, Finding, Layout};
use failback_session::{Sender as Session, SenderOptions, SenderWork};
use failback_wire::Message;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Scope;
use std::time::{Duration, Instant};

/// How often a loop looks whether it was asked to stop while nothing happens.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// Runs that a scan may hand over before the loop takes them.
pub(crate) const SCAN_QUEUE_RUNS: usize = 4;
/// Source runs that may wait for the target's before the scan pauses, where their bytes are not kept.
const WAITING_RUNS_MAX: usize = 1024;

/// What the sending end needs.
pub struct SendingEnd<'a> {
    /// The disk to send; it must not change meanwhile.
    pub source: Arc<dyn UnitSource>,
    /// How it is cut, and how much of it travels.
    pub layout: Layout,
    /// How it is sent.
    pub options: &'a PassOptions,
    /// Everything that is not zero ships with its contents, so what was scanned is kept for that: the target is new and
    /// has no seeds. A block that a seed holds would keep its memory until the pass ends.
    pub ships_everything: bool,
    /// Most of what is not known differs, since a feed named it: it is kept, too, so that it is read once. Not where the
    /// target has seeds, as above.
    pub expects_changes: bool,
    /// The digests of the state that the target was said to be in, where they are at hand: then those of blocks that it
    /// still knows to be so need not come. Whatever they say, the roots are compared at the end.
    pub base: Option<Arc<dyn TrustedDigests>>,
    /// Told of what the scan found.
    pub scan_log: Option<Arc<dyn ScanLog>>,
    /// Counts what happens.
    pub progress: Arc<Progress>,
    /// Stops the pass.
    pub cancel: Cancel,
}

/// The loop's own state.
struct Loop<'a> {
    end: &'a SendingEnd<'a>,
    link: Link,
    session: Session,
    comparer: Comparer,
    manifest: Manifest,
    kept: Kept,
    shipper: Shipper,
    packed: Receiver<Result<Packed, DiskError>>,
    scanned: Receiver<Result<DigestRun, ScanEnd>>,
    root: Option<Digest>,
    /// When it was asked to stop.
    stopping_since: Option<Instant>,
}

impl SendingEnd<'_> {
    /// Sends the pass; the sealed root. What is `known` of the source is not scanned, but what ships of it is read, and
    /// must still have the digest that is known.
    pub fn run(&self, link: Link, known: Option<Known>) -> Result<Digest, PassError> {
        let manifest = Manifest::create_temp(self.layout)?;
        // A segment takes all its buffers at once, so the pool holds at least one.
        let keep = (self.ships_everything || self.expects_changes)
            .then(|| BufferPool::new(self.options.window_bytes.max(SEGMENT_MAX_BYTES) as usize));
        std::thread::scope(|scope| {
            let (scanned_to, scanned) = bounded(SCAN_QUEUE_RUNS);
            self.start_scan(scope, keep.clone(), known, scanned_to);
            let (packed_to, packed) = unbounded();
            let shipper = Shipper::start(scope, self, link.pressure(), packed_to);
            let session = Session::new(SenderOptions {
                layout: self.layout,
                refinement: self.options.refinement.into(),
                window_bytes: self.options.window_bytes,
                verify: self.options.verify,
                holds_base: self.base.is_some(),
            });
            let comparer = Comparer::with_base(self.base.clone());
            let kept = Kept::new(self.layout);
            let outcome = Loop {
                end: self,
                link,
                session,
                comparer,
                manifest,
                kept,
                shipper,
                packed,
                scanned,
                root: None,
                stopping_since: None,
            }
            .run();
            if let Some(pool) = keep {
                pool.close();
            }
            outcome
        })
    }

    fn start_scan<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        keep: Option<BufferPool>,
        known: Option<Known>,
        runs: Sender<Result<DigestRun, ScanEnd>>,
    ) {
        let progress = Arc::clone(&self.progress);
        let scan = Scan {
            source: Arc::clone(&self.source),
            layout: self.layout,
            blocks: self.layout.blocks(),
            threads: self.options.threads,
            keep,
            meter: Arc::new(move |bytes, spent| {
                Progress::add(&progress.bytes_read_source, bytes);
                progress.times.add(crate::Stage::ScanSource, spent);
            }),
        };
        let mut digests: Box<dyn DigestSource> = match known {
            Some(known) => Box::new(PartlyTrusted { known, scan }),
            None => Box::new(scan),
        };
        scope.spawn(move || deliver_to(&mut *digests, &runs));
    }
}

/// Runs a digest source into a channel until either ends.
pub(crate) fn deliver_to(source: &mut dyn DigestSource, runs: &Sender<Result<DigestRun, ScanEnd>>) {
    let _guard = PanicGuard(runs);
    let outcome = source.deliver(&mut |run| match runs.send(Ok(run)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    if let Err(end) = outcome {
        // A listener that is gone needs no reason.
        let _ = runs.send(Err(end));
    }
}

impl Loop<'_> {
    fn run(mut self) -> Result<Digest, PassError> {
        let outcome = self.drive();
        if let Err(error) = &outcome {
            self.link.tell(self.end.cancel.told(error));
        }
        outcome
    }

    fn drive(&mut self) -> Result<Digest, PassError> {
        let pending = never();
        loop {
            self.advance()?;
            if let Some(root) = self.root {
                self.note();
                return Ok(root);
            }
            self.session.watch(Instant::now()).map_err(PassError::from_session)?;
            if self.end.cancel.is_cancelled() && self.is_stopped() {
                return Err(PassError::Cancelled);
            }
            self.note();
            let may_scan = self.comparer.waiting_source_runs() < WAITING_RUNS_MAX;
            let scanned = if may_scan { &self.scanned } else { &pending };
            select! {
                recv(self.link.input) -> frame => {
                    let frame = frame.map_err(|_| self.gone())?;
                    self.link.count_received(&frame, &self.end.progress.bytes_to_source);
                    let message = decode(&frame)?;
                    if matches!(message, Message::Error { .. }) {
                        // Who ends takes nothing more.
                        self.link.discard();
                    }
                    self.session.handle_message(message).map_err(PassError::from_session)?;
                }
                recv(self.packed) -> packed => {
                    if let Ok(packed) = packed {
                        self.take_packed(packed?)?;
                    }
                }
                recv(scanned) -> run => match run {
                    Ok(Ok(run)) => self.take_run(run)?,
                    Ok(Err(ScanEnd::Disk(error))) => return Err(error.into()),
                    // The scan has ended: a channel that stays ready would spin.
                    Ok(Err(ScanEnd::Stopped)) | Err(_) => self.scanned = never(),
                },
                default(TICK) => {}
            }
        }
    }

    /// Stops in good order: what was sent is to be durable at the target. What a slow link has not taken after a moment is
    /// given up instead, and comes with the next session.
    fn is_stopped(&mut self) -> bool {
        let since = *self.stopping_since.get_or_insert_with(Instant::now);
        self.session.stop();
        let late = since.elapsed();
        let is_late = late >= STOP_MAX && self.link.is_waiting() || late >= STOP_ACKNOWLEDGED_MAX;
        self.session.is_stopped() || is_late && self.link.discard()
    }

    /// Tells the counters how far the other end is.
    fn note(&self) {
        let progress = &self.end.progress;
        let differing = Progress::get(&progress.blocks_differing);
        let settled = differing.saturating_sub(self.session.unsettled_blocks());
        // A repair sends blocks again that were settled.
        progress.blocks_settled.fetch_max(settled, Ordering::Relaxed);
        progress.messages_acknowledged.store(self.session.acknowledged_below(), Ordering::Relaxed);
        progress.credit_used_bytes.store(self.session.credit_used_bytes(), Ordering::Relaxed);
    }

    /// The other end is gone: whoever is stopping then has stopped.
    fn gone(&self) -> PassError {
        if self.end.cancel.is_cancelled() { PassError::Cancelled } else { PassError::PeerGone }
    }

    /// Does everything that can be done now.
    fn advance(&mut self) -> Result<(), PassError> {
        loop {
            let mut is_idle = true;
            while let Some(work) = self.session.poll_work() {
                self.start(work)?;
                is_idle = false;
            }
            while self.session.wants_differences() {
                let from = self.comparer.below();
                let Some(found) = self.comparer.step() else { break };
                let differing =
                    found.differing.len() as u64 + found.zeroed.iter().map(|run| run.count()).sum::<u64>();
                Progress::add(&self.end.progress.blocks_differing, differing);
                let below = self.comparer.below();
                self.end.progress.blocks_compared.store(below.0, Ordering::Relaxed);
                self.kept.compared(BlockRange { start: from, end: below }, &found.differing);
                self.session.handle_compared(below, found.consumed_digests, found.differing, found.zeroed);
                is_idle = false;
            }
            while let Some(message) = self.session.poll_transmit() {
                self.count(&message);
                self.link.send(&message, &self.end.progress.bytes_to_target).map_err(|_| self.gone())?;
                is_idle = false;
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    fn start(&mut self, work: SenderWork) -> Result<(), PassError> {
        match work {
            SenderWork::Compare { blocks, digests } => {
                let digests = digests.map_or(TargetDigests::Zeros, TargetDigests::Truncated);
                self.comparer.push_target(TargetRun { blocks, digests })
            }
            SenderWork::CompareBase { blocks } => {
                self.comparer.push_target(TargetRun { blocks, digests: TargetDigests::Base })
            }
            SenderWork::Ship { job, blocks } => self.shipper.ship(job, blocks, &mut self.kept),
            SenderWork::Patch { job, blocks, digests } => {
                self.shipper.patch(job, blocks, digests, &mut self.kept)
            }
            SenderWork::Seal => {
                let root = self.manifest.seal(1)?;
                self.session.handle_root(root);
            }
            SenderWork::CompareChunks { first, digests } => {
                let differing = self.differing_chunks(first, &digests);
                self.session.handle_chunks_compared(differing).map_err(PassError::from_session)?;
            }
            SenderWork::CompareChunk { chunk, digests } => {
                let differing = self.differing_blocks(chunk, &digests);
                self.manifest.unseal()?;
                self.session.handle_chunk_compared(differing).map_err(PassError::from_session)?;
            }
            SenderWork::Finish { root } => self.root = Some(root),
        }
        Ok(())
    }

    fn take_run(&mut self, mut run: DigestRun) -> Result<(), PassError> {
        let bytes = self.end.layout.bytes_of(run.blocks).end();
        self.end.progress.scanned_source_bytes.store(bytes, Ordering::Relaxed);
        if let Some(log) = &self.end.scan_log {
            run.read().try_for_each(|(blocks, digests)| log.scanned(blocks, digests))?;
        }
        if let Some(digests) = &run.digests {
            self.manifest.set_run(run.blocks.start, digests)?;
            for kept in run.kept.drain(..) {
                self.kept.insert(kept, run.blocks.start, digests);
            }
        }
        self.comparer.push_source(run);
        Ok(())
    }

    /// Hands over what was packed, if the source still is what was scanned.
    fn take_packed(&mut self, packed: Packed) -> Result<(), PassError> {
        for patch in packed.messages.iter().flat_map(|data| &data.patches) {
            if self.manifest.get(patch.block) != patch.digest {
                return Err(self.changed(patch.block));
            }
        }
        self.session.handle_packed(packed.job, packed.messages, packed.refined);
        Ok(())
    }

    fn changed(&self, block: BlockIndex) -> PassError {
        let reason = format!("block {} no longer has the contents that were scanned", block.0);
        let offset = self.end.layout.block_bytes(block).start();
        DiskError::new(Code::ChangedMeanwhile, Operation::Read, self.end.source.name(), reason)
            .at(offset)
            .into()
    }

    fn differing_chunks(&self, first: ChunkIndex, digests: &Bytes) -> Vec<ChunkIndex> {
        (first.0..)
            .zip(Message::full_digests(digests))
            .filter(|&(chunk, theirs)| self.manifest.chunk_digest(ChunkIndex(chunk)) != theirs)
            .map(|(chunk, _)| ChunkIndex(chunk))
            .collect()
    }

    fn differing_blocks(&self, chunk: ChunkIndex, digests: &Bytes) -> Vec<BlockIndex> {
        let blocks = self.end.layout.chunk_blocks(chunk);
        let own = self.manifest.entries(blocks);
        let theirs = Message::full_digests(digests);
        blocks
            .iter()
            .zip(own.iter().zip(theirs))
            .filter(|(_, (a, b))| **a != b.0)
            .map(|(block, _)| block)
            .collect()
    }

    fn count(&self, message: &Message) {
        let progress = &self.end.progress;
        match message {
            Message::Data(data) => {
                let pages: usize = data.patches.iter().map(|patch| patch.data.count()).sum();
                Progress::add(&progress.pages_shipped, pages as u64);
            }
            Message::Seal { .. } => {
                self.end.progress.blocks_repaired.store(self.session.resent_blocks(), Ordering::Relaxed)
            }
            _ => {}
        }
    }
}

impl PassError {
    /// What ended a session, as the caller sees it.
    pub(crate) fn from_session(error: failback_session::SessionError) -> Self {
        Self::Failed(Finding::error(error.code, error.reason))
    }
}
