//! The receiving end of a pass: one loop that owns the session machine and the target's manifest, and threads that scan,
//! read, verify, write and commit for it.
//!
//! **Invariant**: the manifest names a block's new digest only after the block was verified and written.

use crate::api::{Cancel, PassError, PassOptions, Progress};
use crate::apply::{Applied, Applier};
use crate::link::{Link, decode};
use crate::sending::{SCAN_QUEUE_RUNS, TICK, deliver_to};
use crate::stage::Stage;
use crossbeam_channel::{Receiver, bounded, never, select, unbounded};
use failback_blockio::DiskError;
use failback_engine::manifest::Manifest;
use failback_engine::seed::SeedIndex;
use failback_engine::{DigestRun, DigestSource, Known, NewDisk, PartlyTrusted, Scan, ScanEnd, Sink};
use failback_image::{Image, ImageFormat};
use failback_model::{BlockIndex, ChunkIndex, Code, Digest, Finding, Layout, PageDigest, TruncatedDigest};
use failback_session::{Receiver as Session, ReceiverOptions, ReceiverWork};
use failback_wire::{BlockPatch, Frame};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What the receiving end needs.
pub struct ReceivingEnd<'a> {
    /// The target's disk.
    pub image: Arc<dyn Image>,
    /// How it is written.
    pub sink: Arc<dyn Sink>,
    /// The pass's disk: the source's length, even where the target is longer.
    pub layout: Layout,
    /// The target was just created and reads as zero.
    pub is_new: bool,
    /// What is known of the target is of the state that the sending end was told of, so that end need not be told again.
    pub is_at_seal: bool,
    /// Where blocks may be copied from.
    pub seeds: Option<Arc<SeedIndex>>,
    /// Threads and window; the rest is the sending end's.
    pub options: &'a PassOptions,
    /// Counts what happens.
    pub progress: Arc<Progress>,
    /// Stops the pass.
    pub cancel: Cancel,
}

/// A pass that ended: the target is durably the state with this root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Root of both ends.
    pub root: Digest,
    /// The target's generation; 1 where it keeps none.
    pub generation: u64,
}

/// What threads answer.
pub(crate) enum Answer {
    /// Page digests of blocks, as many each as the block has pages.
    Pages { blocks: Vec<BlockIndex>, digests: Vec<Box<[PageDigest]>> },
    /// A numbered message is dealt with.
    Applied(Applied),
    /// A commit is durable.
    Committed,
    /// Everything is durable, and where asked for, read anew.
    Proven(Option<Manifest>),
    /// The reading anew was stopped.
    Unproven,
    /// Digests of one chunk as they are on the medium.
    Chunk { chunk: ChunkIndex, digests: Vec<Digest> },
}

/// The loop's own state.
struct Loop<'a> {
    end: &'a ReceivingEnd<'a>,
    link: Link,
    session: Session,
    manifest: Manifest,
    known_pages: HashMap<BlockIndex, Box<[PageDigest]>>,
    applier: Applier,
    answers: Receiver<Result<Answer, DiskError>>,
    scanned: Receiver<Result<DigestRun, ScanEnd>>,
    sealed: Option<Sealed>,
    /// Why the pass ends before its seal, once it does: what was taken in is written and committed first.
    ending: Option<PassError>,
}

/// Whether an image is a stream.
pub(crate) fn is_written_once(image: &dyn Image) -> bool {
    image.identity().format == ImageFormat::VmdkStreamOptimized
}

impl ReceivingEnd<'_> {
    /// Receives the pass. What is `known` of the target is not scanned.
    ///
    /// On an error the target holds a mixture: what the sink committed stands, what came after is old or new. The image
    /// is not closed.
    pub fn run(&self, link: Link, known: Option<Known>) -> Result<Sealed, PassError> {
        let manifest = Manifest::create_temp(self.layout)?;
        std::thread::scope(|scope| {
            let (scanned_to, scanned) = bounded(SCAN_QUEUE_RUNS);
            scope.spawn(move || deliver_to(&mut *self.digest_source(known), &scanned_to));
            let (answers_to, answers) = unbounded();
            let applier = Applier::start(scope, self, answers_to);
            let session = Session::new(ReceiverOptions {
                layout: self.layout,
                // What no seed holds would come too late for an image that is written from front to back.
                has_seeds: self.seeds.is_some() && !self.is_written_once(),
                is_new: self.is_new,
                is_at_seal: self.is_at_seal,
                window_bytes: self.options.window_bytes,
            });
            let known_pages = HashMap::new();
            let (sealed, ending) = (None, None);
            Loop {
                end: self,
                link,
                session,
                manifest,
                known_pages,
                applier,
                answers,
                scanned,
                sealed,
                ending,
            }
            .run()
        })
    }

    /// Whether the target is a stream: written from front to back, and read only once it is closed.
    pub(crate) fn is_written_once(&self) -> bool {
        is_written_once(&*self.image)
    }

    fn digest_source(&self, known: Option<Known>) -> Box<dyn DigestSource> {
        let scan = self.scan(Stage::ScanTarget);
        match known {
            Some(known) => Box::new(PartlyTrusted { known, scan }),
            None if self.is_new => Box::new(NewDisk(self.layout)),
            None => Box::new(scan),
        }
    }

    /// A scan of the target, metered as `stage`.
    pub(crate) fn scan(&self, stage: Stage) -> Scan {
        let progress = Arc::clone(&self.progress);
        Scan {
            source: Arc::clone(&self.image) as _,
            layout: self.layout,
            blocks: self.layout.blocks(),
            threads: self.options.threads,
            keep: None,
            meter: Arc::new(move |bytes, spent| {
                Progress::add(&progress.bytes_read_target, bytes);
                progress.times.add(stage, spent);
            }),
        }
    }
}

impl Loop<'_> {
    fn run(mut self) -> Result<Sealed, PassError> {
        let outcome = self.drive();
        if let Err(error) = &outcome {
            self.link.tell(self.end.cancel.told(error));
        }
        outcome
    }

    fn drive(&mut self) -> Result<Sealed, PassError> {
        let pending = never();
        loop {
            self.advance()?;
            if let Some(sealed) = self.sealed {
                return Ok(sealed);
            }
            self.session.handle_time(Instant::now());
            if let Err(error) = self.session.watch(Instant::now()) {
                self.stop(PassError::from_session(error));
            }
            if self.end.cancel.is_cancelled() {
                self.stop(PassError::Cancelled);
            }
            if let Some(error) = self.ending.take_if(|_| self.session.is_stopped()) {
                return Err(error);
            }
            let scanned = if self.session.wants_digests() { &self.scanned } else { &pending };
            select! {
                recv(self.link.input) -> frame => match frame {
                    Ok(frame) => {
                        self.link.count_received(&frame, &self.end.progress.bytes_to_target);
                        self.take_frame(&frame);
                    }
                    Err(_) => self.stop(PassError::PeerGone),
                },
                recv(self.answers) -> answer => {
                    if let Ok(answer) = answer {
                        self.take_answer(answer?)?;
                    }
                }
                recv(scanned) -> run => match run {
                    Ok(Ok(run)) => self.take_run(&run)?,
                    Ok(Err(ScanEnd::Disk(error))) => return Err(error.into()),
                    Ok(Err(ScanEnd::Stopped)) | Err(_) => self.scanned = never(),
                },
                default(TICK) => {}
            }
        }
    }

    /// Takes nothing more from the other end; the first reason is the one that is told.
    fn stop(&mut self, reason: PassError) {
        self.link.input = never();
        self.session.stop();
        self.ending.get_or_insert(reason);
    }

    /// A frame that is no good ends the session; what came before it was good.
    fn take_frame(&mut self, frame: &Frame) {
        let taken = decode(frame)
            .and_then(|message| self.session.handle_message(message).map_err(PassError::from_session));
        if let Err(error) = taken {
            self.stop(error);
        }
    }

    fn advance(&mut self) -> Result<(), PassError> {
        loop {
            let mut is_idle = true;
            while let Some(work) = self.session.poll_work() {
                self.start(work)?;
                is_idle = false;
            }
            while let Some(message) = self.session.poll_transmit() {
                match self.link.send(&message, &self.end.progress.bytes_to_source) {
                    // The last message may find the sending end gone: it is done, and so is this end.
                    Err(error) if self.sealed.is_none() => self.stop(error),
                    _ => {}
                }
                is_idle = false;
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    fn start(&mut self, work: ReceiverWork) -> Result<(), PassError> {
        match work {
            ReceiverWork::PageDigests { blocks } => self.applier.page_digests(blocks),
            ReceiverWork::Apply(data) => {
                let known = data.patches.iter().filter_map(|patch| self.take_known(patch)).collect();
                let zero_before = data.patches.iter().map(|patch| patch.block);
                let zero_before = zero_before.filter(|&block| self.manifest.get(block).is_zero()).collect();
                self.applier.apply(data, known, zero_before);
            }
            ReceiverWork::Zero { sequence, ranges } => self.applier.zero(sequence, ranges),
            ReceiverWork::Reference { sequence, offers } => self.applier.reference(sequence, offers),
            ReceiverWork::Commit => self.applier.commit(),
            ReceiverWork::Seal { verify } => self.applier.prove(verify),
            ReceiverWork::ChunkDigests { chunks } => self.offer_chunks(chunks)?,
            ReceiverWork::ReadChunk { chunk } => self.applier.read_chunk(chunk),
            ReceiverWork::Finish { root } => {
                let generation = self.end.sink.seal(root)?;
                self.sealed = Some(Sealed { root, generation });
            }
        }
        Ok(())
    }

    /// Looks up digests of chunks. Entries may change once all are offered: then chunks are read anew.
    fn offer_chunks(&mut self, chunks: Range<u64>) -> Result<(), PassError> {
        if self.end.is_written_once() {
            let reason = format!("{} was written in one go", self.end.image.name().display());
            return Err(PassError::Failed(Finding::error(Code::RootMismatch, reason)));
        }
        let first = ChunkIndex(chunks.start);
        let digests: Vec<_> =
            chunks.clone().map(|chunk| self.manifest.chunk_digest(ChunkIndex(chunk))).collect();
        if chunks.end == self.end.layout.chunk_count() {
            self.manifest.unseal()?;
        }
        self.session.handle_chunk_digests(first, &digests);
        Ok(())
    }

    /// Tells the counters how far in the disk this reaches.
    fn note_end(&self, applied: &Applied) {
        let last = applied.digests.iter().map(|(block, _)| self.end.layout.block_bytes(*block).end());
        let zeroed = applied.zeroed.iter().map(|range| self.end.layout.bytes_of(*range).end());
        if let Some(end_bytes) = last.chain(zeroed).max() {
            self.end.progress.written_end_bytes.fetch_max(end_bytes, Ordering::Relaxed);
        }
    }

    /// Page digests of a block that was refined.
    fn take_known(&mut self, patch: &BlockPatch) -> Option<(BlockIndex, Box<[PageDigest]>)> {
        self.known_pages.remove(&patch.block).map(|pages| (patch.block, pages))
    }

    fn take_run(&mut self, run: &DigestRun) -> Result<(), PassError> {
        let end = self.end.layout.bytes_of(run.blocks).end();
        self.end.progress.scanned_target_bytes.store(end, Ordering::Relaxed);
        run.read().try_for_each(|(blocks, digests)| self.end.sink.scanned(blocks, digests))?;
        if let Some(digests) = &run.digests {
            self.manifest.set_run(run.blocks.start, digests)?;
        }
        match &run.digests {
            _ if self.session.may_leave_out() && run.read().next().is_none() => {
                self.session.handle_known(run.blocks);
            }
            None => self.session.handle_scanned(run.blocks, None),
            Some(digests) => {
                let truncated: Vec<TruncatedDigest> = digests.iter().map(Digest::truncated).collect();
                self.session.handle_scanned(run.blocks, Some(&truncated));
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, answer: Answer) -> Result<(), PassError> {
        match answer {
            Answer::Pages { blocks, digests } => {
                let truncated: Vec<_> = digests.iter().flatten().map(PageDigest::truncated).collect();
                self.known_pages.extend(blocks.iter().copied().zip(digests));
                self.session.handle_page_digests(blocks, &truncated);
            }
            Answer::Applied(applied) => {
                self.note_end(&applied);
                for (block, digest) in applied.digests {
                    self.manifest.set(block, digest)?;
                }
                for range in applied.zeroed {
                    self.manifest.set_zeros(range)?;
                }
                self.session.handle_applied(applied.sequence, applied.written_bytes, applied.missing);
            }
            Answer::Committed => self.session.handle_committed(),
            // Only a pass that was cancelled stops a proof.
            Answer::Unproven => return Err(PassError::Cancelled),
            Answer::Proven(proof) => {
                if let Some(proven) = proof {
                    self.manifest = proven;
                }
                let root = self.manifest.seal(1)?;
                self.session.handle_root(root);
            }
            Answer::Chunk { chunk, digests } => {
                let blocks = self.end.layout.chunk_blocks(chunk);
                self.manifest.set_run(blocks.start, &digests)?;
                // What a journal vouched for was wrong: it learns what the medium holds.
                let held: Vec<_> = blocks.iter().zip(digests.iter().copied()).collect();
                self.end.sink.applied(&held, &[])?;
                self.session.handle_full_digests(chunk, &digests);
            }
        }
        Ok(())
    }
}
