//! Jobs of the sending end: read blocks again (reader threads), choose their pages and pack them (rayon).

use crate::api::{Progress, Refinement};
use crate::blocks::BlockBuffer;
use crate::guarded::{PanicGuard, spawn_guarded};
use crate::kept::{Kept, KeptBlock, SharedRun};
use crate::level::LevelPolicy;
use crate::link::Pressure;
use crate::sending::SendingEnd;
use crate::stage::Stage;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_blockio::{BufferPool, DiskError, UnitSource};
use failback_engine::{Packer, RefinedBlock, choose_pages, refine, whole};
use failback_model::{BlockIndex, Layout, TruncatedDigest};
use failback_session::{Job, RefinementMode};
use failback_wire::{BlockPatch, Data, Message};
use std::sync::Arc;
use std::thread::Scope;
use std::time::Instant;

/// What a job came to.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) job: Job,
    pub(crate) messages: Vec<Data>,
    /// Pages that differ and pages looked at, where the job refined.
    pub(crate) refined: Option<(usize, usize)>,
}

/// Blocks to read, and the target's page digests where they are to be refined.
struct ReadJob {
    job: Job,
    blocks: Vec<BlockIndex>,
    target_pages: Option<Bytes>,
}

/// Starts jobs; answers come through the channel it was given.
pub(crate) struct Shipper {
    reads: Sender<ReadJob>,
    packed: Sender<Result<Packed, DiskError>>,
    stage: PackStage,
}

/// What the CPU part of a job needs.
#[derive(Clone)]
struct PackStage {
    layout: Layout,
    level: LevelPolicy,
    progress: Arc<Progress>,
}

impl Shipper {
    /// Starts the reader threads.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        end: &SendingEnd<'_>,
        queued_bytes: Option<Pressure>,
        packed: Sender<Result<Packed, DiskError>>,
    ) -> Self {
        let progress = Arc::clone(&end.progress);
        let options = end.options;
        let level = LevelPolicy::new(options.compression, queued_bytes, options.window_bytes, &progress);
        let stage = PackStage { layout: end.layout, level, progress };
        let (reads, jobs) = unbounded::<ReadJob>();
        let pool = BufferPool::new(end.options.reread_pool_bytes());
        for number in 0..end.options.reader_threads() {
            let reader = Reader {
                source: Arc::clone(&end.source),
                pool: pool.clone(),
                jobs: jobs.clone(),
                packed: packed.clone(),
                stage: stage.clone(),
            };
            std::thread::Builder::new()
                .name(format!("reread-{number}"))
                .spawn_scoped(scope, move || reader.run())
                .expect("a thread can be started");
        }
        Self { reads, packed, stage }
    }

    /// Packs blocks whole: from bytes that were kept, else read again.
    pub(crate) fn ship(&self, job: Job, blocks: Vec<BlockIndex>, kept: &mut Kept) {
        match kept.take_all(&blocks) {
            Some(blocks) => {
                let (stage, packed) = (self.stage.clone(), self.packed.clone());
                spawn_guarded(packed, move || {
                    Some(Packed { job, messages: stage.pack_kept(blocks), refined: None })
                });
            }
            None => self.read(ReadJob { job, blocks, target_pages: None }),
        }
    }

    /// Packs the pages of blocks that differ from the target's page digests: from bytes that were kept, else read again.
    pub(crate) fn patch(&self, job: Job, blocks: Vec<BlockIndex>, digests: Bytes, kept: &mut Kept) {
        match kept.take_all(&blocks) {
            Some(blocks) => {
                let (stage, packed) = (self.stage.clone(), self.packed.clone());
                spawn_guarded(packed, move || {
                    let blocks = blocks.iter().map(|kept| (kept.block, kept.bytes()));
                    Some(stage.pack_read(job, blocks, Some(&digests)))
                });
            }
            None => self.read(ReadJob { job, blocks, target_pages: Some(digests) }),
        }
    }

    fn read(&self, job: ReadJob) {
        // Readers end only after this sender is dropped.
        let _ = self.reads.send(job);
    }
}

struct Reader {
    source: Arc<dyn UnitSource>,
    pool: BufferPool,
    jobs: Receiver<ReadJob>,
    packed: Sender<Result<Packed, DiskError>>,
    stage: PackStage,
}

impl Reader {
    fn run(self) {
        let _guard = PanicGuard(&self.packed);
        for ReadJob { job, blocks, target_pages } in &self.jobs {
            let started = Instant::now();
            match BlockBuffer::read(&*self.source, self.stage.layout, blocks, &self.pool) {
                // A loop that is gone needs no answer.
                Err(error) => drop(self.packed.send(Err(error))),
                Ok(buffer) => {
                    Progress::add(&self.stage.progress.bytes_read_source, buffer.bytes_read());
                    let stage = if target_pages.is_some() { Stage::Refine } else { Stage::Pack };
                    self.stage.progress.times.add(stage, started.elapsed());
                    let (stage, packed) = (self.stage.clone(), self.packed.clone());
                    spawn_guarded(packed, move || {
                        Some(stage.pack_read(job, buffer.iter(), target_pages.as_ref()))
                    });
                }
            }
        }
    }
}

impl PackStage {
    /// Packs blocks that were read, refined where the target's page digests are given.
    fn pack_read<'a>(
        &self,
        job: Job,
        blocks: impl Iterator<Item = (BlockIndex, &'a [u8])>,
        target_pages: Option<&Bytes>,
    ) -> Packed {
        let started = Instant::now();
        let mut packer = Packer::new(self.level.choose());
        let mut theirs = target_pages.map(Message::truncated_digests);
        let (mut differing, mut pages) = (0, 0);
        for (index, block) in blocks {
            let refined = match &mut theirs {
                None => whole(block),
                Some(digests) => {
                    let own: Vec<TruncatedDigest> = digests.take(self.layout.pages_of(index)).collect();
                    let refined = refine(block, &own);
                    differing += refined.data.count() + refined.zero.count();
                    pages += own.len();
                    refined
                }
            };
            packer.add(index, block, &refined);
        }
        let stage = if target_pages.is_some() { Stage::Refine } else { Stage::Pack };
        self.progress.times.add(stage, started.elapsed());
        Packed { job, messages: packer.finish(), refined: target_pages.map(|_| (differing, pages)) }
    }

    /// Packs blocks whose digests are known and whose bytes may be shared.
    fn pack_kept(&self, blocks: Vec<KeptBlock>) -> Vec<Data> {
        let started = Instant::now();
        let level = self.level.choose();
        let mut packer = Packer::new(level);
        let mut run = SharedRun::default();
        for block in blocks {
            let (data, zero) = choose_pages(block.bytes());
            let KeptBlock { block: index, digest, .. } = block;
            if level.is_some() || !zero.is_empty() {
                run.flush(&mut packer);
                packer.add(index, block.bytes(), &RefinedBlock { digest, data, zero });
            } else if let Err(patch) = run.push(&block, BlockPatch { block: index, digest, data, zero }) {
                run.flush(&mut packer);
                run.push(&block, patch).expect("an empty run takes any block");
            }
        }
        run.flush(&mut packer);
        self.progress.times.add(Stage::Pack, started.elapsed());
        packer.finish()
    }
}

impl From<Refinement> for RefinementMode {
    fn from(refinement: Refinement) -> Self {
        match refinement {
            Refinement::Auto => Self::Auto,
            Refinement::On => Self::On,
            Refinement::Off => Self::Off,
        }
    }
}
