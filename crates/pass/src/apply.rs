//! Jobs of the receiving end. Reader threads read and hash the target, rayon unpacks and verifies, writer threads write,
//! one thread commits.

use crate::api::Progress;
use crate::blocks::BlockBuffer;
use crate::guarded::{PanicGuard, spawn_guarded};
use crate::receiving::{Answer, ReceivingEnd};
use crate::stage::Stage;
use crossbeam_channel::{Receiver, Sender, unbounded};
use failback_blockio::{BufferPool, DiskError, UnitSource};
use failback_engine::{Unpacked, Write, old_pages_of, read_digests, unpack};
use failback_model::limits::{OFFER_MAX_BYTES, PACK_MAX_BYTES};
use failback_model::{BlockIndex, BlockRange, ByteRange, ChunkIndex, Digest, PageDigest};
use failback_wire::{Data, Offer};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::Scope;
use std::time::Instant;

/// Threads that write: two keep a device busy while one of them waits in a system call.
const WRITER_THREADS: usize = 2;
/// What a writer begins at once, at most one message more.
const WRITE_BATCH_BYTES: u64 = 4 << 20;

/// Page digests by block.
pub(crate) type KnownPages = HashMap<BlockIndex, Box<[PageDigest]>>;

/// What a numbered message came to.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) sequence: u64,
    pub(crate) digests: Vec<(BlockIndex, Digest)>,
    pub(crate) zeroed: Vec<BlockRange>,
    pub(crate) missing: Vec<BlockIndex>,
    pub(crate) written_bytes: u64,
}

impl Applied {
    /// The blocks that change, as runs.
    fn blocks(&self) -> Vec<BlockRange> {
        let digests = self.digests.chunk_by(|(a, _), (b, _)| a.0 + 1 == b.0);
        let runs = digests.map(|run| BlockRange::new(run[0].0.0, run[0].0.0 + run.len() as u64));
        runs.chain(self.zeroed.iter().copied()).collect()
    }
}

/// A data message on its way through the CPU.
struct Parcel {
    data: Data,
    known: KnownPages,
    /// Blocks that are zero on the target: their zero pages need no writing.
    zero_before: HashSet<BlockIndex>,
}

enum ReadJob {
    Pages(Vec<BlockIndex>),
    Chunk(ChunkIndex),
    Reference { sequence: u64, offers: Vec<Offer> },
    OldPages(Parcel),
}

struct WriteJob {
    applied: Applied,
    writes: Vec<Write>,
    zeros: Vec<ByteRange>,
    /// How much of the writes came from seeds.
    seed_bytes: u64,
}

enum FlushJob {
    Commit,
    Prove { verify: bool },
}

/// Starts jobs; answers come through the channel it was given.
pub(crate) struct Applier {
    reads: Sender<ReadJob>,
    flushes: Sender<FlushJob>,
    stage: Stages,
}

/// What the jobs share.
#[derive(Clone)]
struct Stages {
    layout: failback_model::Layout,
    block_batch: usize,
    writes: Sender<WriteJob>,
    answers: Sender<Result<Answer, DiskError>>,
    progress: Arc<Progress>,
}

impl Applier {
    /// Starts the reader, writer and committing threads.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        end: &'scope ReceivingEnd<'_>,
        answers: Sender<Result<Answer, DiskError>>,
    ) -> Self {
        let (reads, read_jobs) = unbounded();
        let (writes, write_jobs) = unbounded();
        let (flushes, flush_jobs) = unbounded();
        let block_batch = PACK_MAX_BYTES / end.layout.block_size().bytes() as usize;
        let stage = Stages {
            layout: end.layout,
            block_batch,
            writes,
            answers: answers.clone(),
            progress: Arc::clone(&end.progress),
        };
        let pool = BufferPool::new(end.options.reread_pool_bytes());
        let spawn = |name: String, body: Box<dyn FnOnce() + Send + 'scope>| {
            std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, body)
                .expect("a thread can be started");
        };
        for number in 0..end.options.reader_threads() {
            let reader = Reader { end, pool: pool.clone(), answers: answers.clone(), stage: stage.clone() };
            let jobs = read_jobs.clone();
            spawn(format!("target-{number}"), Box::new(move || reader.run(&jobs)));
        }
        for number in 0..WRITER_THREADS {
            let (jobs, answers) = (write_jobs.clone(), answers.clone());
            spawn(format!("write-{number}"), Box::new(move || run_writer(end, &jobs, &answers)));
        }
        spawn("commit".into(), Box::new(move || run_flusher(end, &flush_jobs, &answers)));
        Self { reads, flushes, stage }
    }

    /// Reads blocks and hashes their pages, a pack's worth at a time.
    pub(crate) fn page_digests(&self, blocks: Vec<BlockIndex>) {
        for part in blocks.chunks(self.stage.block_batch) {
            start(&self.reads, ReadJob::Pages(part.to_vec()));
        }
    }

    /// Unpacks, verifies and writes. Page digests that are not `known` but needed are read first.
    pub(crate) fn apply(&self, data: Data, known: KnownPages, zero_before: HashSet<BlockIndex>) {
        let layout = self.stage.layout;
        let lacks_pages = data.patches.iter().any(|patch| {
            patch.data.count() + patch.zero.count() < layout.pages_of(patch.block)
                && !known.contains_key(&patch.block)
        });
        let parcel = Parcel { data, known, zero_before };
        if lacks_pages {
            start(&self.reads, ReadJob::OldPages(parcel));
        } else {
            self.stage.clone().unpack(parcel);
        }
    }

    /// Makes blocks zero.
    pub(crate) fn zero(&self, sequence: u64, ranges: Vec<BlockRange>) {
        let zeros = ranges.iter().map(|&range| self.stage.layout.bytes_of(range)).collect();
        let applied = Applied { sequence, zeroed: ranges, ..Applied::default() };
        start(&self.stage.writes, WriteJob { applied, writes: Vec::new(), zeros, seed_bytes: 0 });
    }

    /// Looks blocks up in the seeds and writes those found.
    pub(crate) fn reference(&self, sequence: u64, offers: Vec<Offer>) {
        start(&self.reads, ReadJob::Reference { sequence, offers });
    }

    /// Makes everything written so far durable.
    pub(crate) fn commit(&self) {
        start(&self.flushes, FlushJob::Commit);
    }

    /// Commits, and reads the target anew where asked.
    pub(crate) fn prove(&self, verify: bool) {
        start(&self.flushes, FlushJob::Prove { verify });
    }

    /// Reads one chunk's digests from the medium.
    pub(crate) fn read_chunk(&self, chunk: ChunkIndex) {
        start(&self.reads, ReadJob::Chunk(chunk));
    }
}

/// Queues a job. The threads end only after this sender is dropped, so none is lost while anyone waits for it.
fn start<T>(jobs: &Sender<T>, job: T) {
    let _ = jobs.send(job);
}

impl Stages {
    /// Hands a parcel to rayon, and what becomes of it to the writers.
    fn unpack(self, parcel: Parcel) {
        spawn_guarded(self.answers.clone(), move || {
            let started = Instant::now();
            let job = self.open(parcel);
            self.progress.times.add(Stage::Unpack, started.elapsed());
            start(&self.writes, job);
            None
        });
    }

    fn open(&self, parcel: Parcel) -> WriteJob {
        let Parcel { data, known, zero_before } = parcel;
        let Unpacked { writes, mut zeros, digests, failed } =
            unpack(self.layout, &data, &|block| known.get(&block).cloned().unwrap_or_default());
        zeros.retain(|range| {
            let block = self.layout.blocks_covering(*range).start;
            !zero_before.contains(&block)
        });
        WriteJob {
            applied: Applied { sequence: data.sequence, digests, missing: failed, ..Applied::default() },
            writes,
            zeros,
            seed_bytes: 0,
        }
    }
}

struct Reader<'a> {
    end: &'a ReceivingEnd<'a>,
    pool: BufferPool,
    answers: Sender<Result<Answer, DiskError>>,
    stage: Stages,
}

impl Reader<'_> {
    fn run(self, jobs: &Receiver<ReadJob>) {
        let _guard = PanicGuard(&self.answers);
        for job in jobs {
            let outcome = match job {
                ReadJob::Pages(blocks) => self.hash_pages(blocks).map(Some),
                ReadJob::Chunk(chunk) => self.read_chunk(chunk).map(Some),
                ReadJob::Reference { sequence, offers } => {
                    self.reference(sequence, &offers);
                    Ok(None)
                }
                ReadJob::OldPages(parcel) => self.complete(parcel).map(|()| None),
            };
            if let Some(answer) = outcome.transpose() {
                start(&self.answers, answer);
            }
        }
    }

    fn read(&self, blocks: Vec<BlockIndex>) -> Result<BlockBuffer, DiskError> {
        let source: &dyn UnitSource = &*self.end.image;
        let buffer = BlockBuffer::read(source, self.stage.layout, blocks, &self.pool)?;
        Progress::add(&self.stage.progress.bytes_read_target, buffer.bytes_read());
        Ok(buffer)
    }

    fn hash_pages(&self, blocks: Vec<BlockIndex>) -> Result<Answer, DiskError> {
        let started = Instant::now();
        let buffer = self.read(blocks)?;
        let digests = buffer.iter().map(|(_, bytes)| old_pages_of(bytes)).collect();
        self.stage.progress.times.add(Stage::Refine, started.elapsed());
        Ok(Answer::Pages { blocks: buffer.into_blocks(), digests })
    }

    fn read_chunk(&self, chunk: ChunkIndex) -> Result<Answer, DiskError> {
        self.end.image.drop_cached();
        let blocks = self.stage.layout.chunk_blocks(chunk);
        let (digests, bytes_read) = read_digests(&*self.end.image, self.stage.layout, blocks)?;
        Progress::add(&self.stage.progress.bytes_read_target, bytes_read);
        Ok(Answer::Chunk { chunk, digests })
    }

    /// Reads the old pages that a message's patches leave as they are.
    fn complete(&self, mut parcel: Parcel) -> Result<(), DiskError> {
        let lacking = parcel.data.patches.iter().map(|patch| patch.block);
        let lacking: Vec<_> = lacking.filter(|block| !parcel.known.contains_key(block)).collect();
        for part in lacking.chunks(self.stage.block_batch) {
            let buffer = self.read(part.to_vec())?;
            parcel.known.extend(buffer.iter().map(|(block, bytes)| (block, old_pages_of(bytes))));
        }
        self.stage.clone().unpack(parcel);
        Ok(())
    }

    /// Copies offered blocks from seeds. The bytes written are the very bytes that were hashed, so a seed that changes
    /// meanwhile costs a miss, never a wrong block. Those found lie one behind the other, so that neighbours are written
    /// in one call.
    fn reference(&self, sequence: u64, offers: &[Offer]) {
        let started = Instant::now();
        let layout = self.stage.layout;
        let mut applied = Applied { sequence, ..Applied::default() };
        let length: u64 = offers.iter().map(|offer| layout.block_bytes(offer.block).length_bytes()).sum();
        let mut buffer = self.pool.acquire(length.max(OFFER_MAX_BYTES) as usize);
        buffer.set_length(length as usize);
        let mut found: Vec<ByteRange> = Vec::new();
        let mut at = 0;
        for offer in offers {
            let bytes = layout.block_bytes(offer.block);
            let end = at + bytes.length_bytes() as usize;
            let seeds = self.end.seeds.as_ref();
            if !seeds.is_some_and(|seeds| seeds.find(offer.digest, &mut buffer[at..end])) {
                applied.missing.push(offer.block);
                continue;
            }
            at = end;
            applied.digests.push((offer.block, offer.digest));
            match found.last_mut() {
                Some(last) if last.end() == bytes.start() => {
                    *last = ByteRange::new(last.start(), bytes.end())
                }
                _ => found.push(bytes),
            }
        }
        buffer.set_length(at);
        let mut rest = buffer.into_bytes();
        let writes = found.into_iter().map(|range| Write {
            offset_bytes: range.start(),
            bytes: rest.split_to(range.length_bytes() as usize),
        });
        let job = WriteJob { applied, writes: writes.collect(), zeros: Vec::new(), seed_bytes: at as u64 };
        self.stage.progress.times.add(Stage::Seeds, started.elapsed());
        start(&self.stage.writes, job);
    }
}

/// Jobs that wait are begun together: with a journal, one sync serves all of them.
fn run_writer(
    end: &ReceivingEnd<'_>,
    jobs: &Receiver<WriteJob>,
    answers: &Sender<Result<Answer, DiskError>>,
) {
    let _guard = PanicGuard(answers);
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        let mut bytes = batch[0].bytes();
        while bytes < WRITE_BATCH_BYTES
            && let Ok(next) = jobs.try_recv()
        {
            bytes += next.bytes();
            batch.push(next);
        }
        let begun = {
            let _inside = end.progress.times.enter(Stage::Write);
            let blocks: Vec<BlockRange> = batch.iter().flat_map(|job| job.applied.blocks()).collect();
            let changes: Vec<ByteRange> = batch.iter().flat_map(WriteJob::changes).collect();
            end.sink.begin(&blocks, &changes)
        };
        if let Err(error) = begun {
            start(answers, Err(error));
            continue;
        }
        for job in batch {
            start(answers, write(end, job).map(Answer::Applied));
        }
    }
}

impl WriteJob {
    /// What is written and zeroed.
    fn changes(&self) -> impl Iterator<Item = ByteRange> {
        let written = self
            .writes
            .iter()
            .map(|write| ByteRange::new(write.offset_bytes, write.offset_bytes + write.bytes.len() as u64));
        written.chain(self.zeros.iter().copied())
    }

    fn bytes(&self) -> u64 {
        self.changes().map(ByteRange::length_bytes).sum()
    }
}

/// Carries out a job that was begun.
fn write(end: &ReceivingEnd<'_>, job: WriteJob) -> Result<Applied, DiskError> {
    let _inside = end.progress.times.enter(Stage::Write);
    let WriteJob { mut applied, writes, zeros, seed_bytes } = job;
    for write in &writes {
        end.sink.write(write.offset_bytes, &write.bytes)?;
        applied.written_bytes += write.bytes.len() as u64;
    }
    for &range in &zeros {
        end.sink.zero(range)?;
        Progress::add(&end.progress.zero_bytes, range.length_bytes());
        applied.written_bytes += range.length_bytes();
    }
    end.sink.applied(&applied.digests, &applied.zeroed)?;
    Progress::add(&end.progress.bytes_written, applied.written_bytes);
    Progress::add(&end.progress.seed_bytes, seed_bytes);
    Ok(applied)
}

fn run_flusher(
    end: &ReceivingEnd<'_>,
    jobs: &Receiver<FlushJob>,
    answers: &Sender<Result<Answer, DiskError>>,
) {
    let _guard = PanicGuard(answers);
    for job in jobs {
        let inside = end.progress.times.enter(Stage::Flush);
        let committed = end.sink.commit();
        drop(inside);
        let answer = match job {
            FlushJob::Commit => committed.map(|()| Answer::Committed),
            FlushJob::Prove { verify: false } => committed.map(|()| Answer::Proven(None)),
            FlushJob::Prove { verify: true } => match committed.and_then(|()| end.prove()) {
                Ok(Some(manifest)) => Ok(Answer::Proven(Some(manifest))),
                Ok(None) => Ok(Answer::Unproven),
                Err(error) => Err(error),
            },
        };
        start(answers, answer);
    }
}
