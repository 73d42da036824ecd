//! One disk of a machine: its sessions, and what is known of it.
//!
//! **Invariant**: at most one session writes: the next one begins only when no call of an older one is under way, and
//! older ones are refused from then on.

use crate::digest_file::DigestFile;
use crate::disk_state::DiskFold;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::group::Groups;
use crate::journal::{Journal, JournalState, Position};
use crate::look::unix_ms;
use crate::sink::{JournaledSink, Logging};
use crate::trusted::{HeldDigests, TrustedState};
use crate::undo::UndoLog;
use failback_blockio::{DiskError, Operation};
use failback_engine::Sink;
use failback_format::journal_record::{DiskSlot, Left, Phase, PhaseKind, Record, Trust};
use failback_image::Image;
use failback_model::limits::{JOURNAL_RECORD_MAX_DIGESTS, JOURNAL_RECORD_MAX_RANGES};
use failback_model::{
    BlockIndex, BlockRange, BlockSize, ChunkIndex, Code, Digest, DiskId, Epoch, Generation, Layout,
    PointClaim, SessionNumber,
};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is known of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskState {
    /// Number of the last sealed state; 0 before the first.
    pub generation: Generation,
    /// Root of that state.
    pub root: Option<Digest>,
    /// Epoch of the last session.
    pub epoch: Epoch,
    /// Number of the last session; 0 before the first.
    pub session: SessionNumber,
    /// Layout of the last session.
    pub layout: Option<Layout>,
    /// Whether the disk began to change since it was sealed, or is no longer known to be what was sealed.
    pub in_pass: bool,
    /// Blocks whose digests are known.
    pub trusted_blocks: u64,
}

/// A disk of a machine.
#[derive(Debug)]
pub struct DiskStore(Arc<Disk>);

/// What a disk's handle and its sinks share.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) journal: Arc<Journal>,
    pub(crate) undo: Option<Arc<UndoLog>>,
    pub(crate) slot: DiskSlot,
    pub(crate) id: DiskId,
    /// The oldest session that may still write. Calls of a session hold it for reading.
    gate: RwLock<SessionNumber>,
    groups: Mutex<Groups>,
    /// Held by whoever commits.
    pub(crate) committing: Mutex<()>,
    /// The block that trusted blocks are read again from.
    pub(crate) recheck_from: Mutex<BlockIndex>,
}

impl DiskStore {
    pub(crate) fn new(journal: Arc<Journal>, undo: Option<Arc<UndoLog>>, slot: DiskSlot, id: DiskId) -> Self {
        let (session, recheck_from) = journal.read(slot, |disk| {
            (disk.session, disk.left.as_ref().map_or(BlockIndex(0), |left| left.recheck_from))
        });
        let no_blocks = Layout::new(0, BlockSize::DEFAULT).expect("a disk may be empty");
        Self(Arc::new(Disk {
            journal,
            undo,
            slot,
            id,
            gate: RwLock::new(session.next()),
            groups: Mutex::new(Groups::new(no_blocks, 0, 0)),
            committing: Mutex::new(()),
            recheck_from: Mutex::new(recheck_from),
        }))
    }

    /// Its id.
    pub fn id(&self) -> &DiskId {
        &self.0.id
    }

    /// Whether its image was closed in good order and noted since something of ours wrote to it: then it can be told whether
    /// it is still the same ([`Self::recheck`]).
    pub fn is_left(&self) -> bool {
        self.0.journal.read(self.0.slot, |disk| disk.left.is_some())
    }

    /// What is known of it.
    pub fn state(&self) -> DiskState {
        self.0.journal.read(self.0.slot, |disk| DiskState {
            generation: disk.generation,
            root: disk.root,
            epoch: disk.epoch,
            session: disk.session,
            layout: disk.layout,
            in_pass: disk.in_pass,
            trusted_blocks: disk.trusted.count(),
        })
    }

    /// The job that sealed its last state by a pass, and what that claimed of it.
    pub fn sealed_claim(&self) -> Option<(Epoch, PointClaim)> {
        self.0
            .journal
            .read(self.0.slot, |disk| disk.sealed.as_ref().map(|sealed| (sealed.epoch, sealed.claim.clone())))
    }

    /// Whether a session made its image: there is no original, and cancelling removes it.
    pub fn was_created(&self) -> bool {
        self.0.journal.read(self.0.slot, |disk| disk.is_created)
    }

    /// Begins a session of a pass, durably, and ends all earlier ones: returns once no call of theirs is under way.
    ///
    /// Trust is kept where the layout is the one before and the image still looks as it did when it was last closed or
    /// sealed. After a crash in mid-pass nobody could note how it looks: then the journal is believed within the job that
    /// was cut, whose pass goes on; another job scans.
    /// `is_new_disk` says that the image was made for this session and reads as zero. An older epoch than the disk has
    /// seen is refused, and a job that ended with a cut-over, a cancellation or a commit. Where undo is kept, what a disk
    /// holds before its first session is its original, point 0.
    pub fn open_session(
        &self,
        epoch: Epoch,
        layout: Layout,
        is_new_disk: bool,
        fingerprint: &Fingerprint,
    ) -> Result<SessionNumber, StoreError> {
        let phase = self.0.journal.look(|state| state.history.phase);
        let is_over = phase.kind != PhaseKind::Replicating && phase.kind != PhaseKind::HistoryEnded;
        if is_over && epoch <= phase.epoch {
            return Err(StoreError::JobIsOver { disk: self.0.id.clone(), phase: phase.kind });
        }
        let is_cancelled = phase.kind == PhaseKind::Cancelled;
        let (is_known, is_created) =
            self.0.journal.read(self.0.slot, |state| (state.layout.is_some(), state.is_created));
        if is_new_disk && is_known && self.0.is_protected() && !(is_cancelled && is_created) {
            return Err(StoreError::Point(format!(
                "recovery points hold disk {}, and its image was made anew: mount what it lies on, or give the points up first",
                self.0.id
            )));
        }
        if is_over {
            self.0.journal.update_machine(|state| {
                // What a cancellation removed cannot be gone back to: a new history begins with what is there.
                let has_removed = is_cancelled && state.disks.iter().any(|disk| disk.is_created);
                let phase = |kind| Phase { kind, at_unix_ms: unix_ms(), ..state.history.phase };
                let kinds =
                    has_removed.then_some(PhaseKind::Committed).into_iter().chain([PhaseKind::Replicating]);
                (kinds.map(|kind| Record::Phase(phase(kind))).collect(), ())
            })?;
        }
        if let Some(undo) = self.0.undo.as_ref().filter(|_| !is_new_disk && !self.was_created()) {
            let from = undo.start_interval()?;
            let original = |state: &JournalState| state.history.original(from).into_iter().collect();
            self.0.journal.update_machine(|state| (original(state), ()))?;
        }
        self.begin_session(epoch, layout, is_new_disk, fingerprint)
    }

    /// Begins a session of a pass or of a way back.
    pub(crate) fn begin_session(
        &self,
        epoch: Epoch,
        layout: Layout,
        is_new_disk: bool,
        fingerprint: &Fingerprint,
    ) -> Result<SessionNumber, StoreError> {
        let disk = &*self.0;
        let mut oldest = disk.gate.write().unwrap_or_else(PoisonError::into_inner);
        let (held, last) = disk.journal.read(disk.slot, |state| (state.epoch, state.session));
        if epoch < held {
            return Err(StoreError::OlderEpoch { disk: disk.id.clone(), given: epoch, held });
        }
        let number = last.next().max(*oldest);
        *oldest = number;
        let mut groups = disk.groups();
        let released = groups.ahead.release_all();
        let (position, group) = disk.journal.update(disk.slot, |state| {
            let is_kept = !is_new_disk && keeps_trust(state, epoch, layout, fingerprint);
            let trust = if is_kept { Trust::Kept } else { Trust::Nothing };
            let mut records = trusted_again(&released);
            records.push(Record::Session { epoch, number, layout, trust });
            records.extend(is_new_disk.then_some(Record::Created));
            (records, state.group + 1)
        })?;
        *groups = Groups::new(layout, group, disk.journal.medium().ahead_bytes());
        drop(groups);
        disk.journal.wait_durable(position)?;
        if disk.journal.read(disk.slot, |state| state.digests.is_none()) {
            let digests = DigestFile::create(disk.journal.medium(), &disk.id, layout)?;
            disk.journal.set_digests(disk.slot, Arc::new(digests));
        }
        if is_new_disk && !layout.blocks().is_empty() {
            disk.journal.record(disk.slot, Record::Scanned { blocks: layout.blocks(), digests: None })?;
        }
        Ok(number)
    }

    /// Refuses every session before this one from now on; returns once no call of theirs is under way.
    pub fn fence(&self, number: SessionNumber) {
        let mut oldest = self.0.gate.write().unwrap_or_else(PoisonError::into_inner);
        *oldest = number.max(*oldest);
    }

    /// Returns once no call of a session is under way, and lets none in while the guard is held.
    pub(crate) fn pause(&self) -> RwLockWriteGuard<'_, SessionNumber> {
        self.0.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What need not be scanned. Where the disk is as it was sealed, the digests are proven against its root first.
    pub fn trusted(&self) -> Result<TrustedState, StoreError> {
        let disk = &*self.0;
        let (digests, sealed_root) = disk.journal.read(disk.slot, |state| {
            let is_to_prove = state.is_sealed() && !state.trusted.is_empty();
            (state.digests.clone(), state.root.filter(|_| is_to_prove))
        });
        if let (Some(file), Some(root)) = (&digests, sealed_root) {
            self.prove(file, root)?;
        }
        Ok(disk.trusted_state())
    }

    /// Where the session of a pass writes to, and what is claimed of the state that it brings. Every call is refused once a
    /// later session was opened.
    pub fn sink(&self, image: Arc<dyn Image>, session: SessionNumber, claim: PointClaim) -> Arc<dyn Sink> {
        Arc::new(JournaledSink::new(Arc::clone(&self.0), image, session, claim, Logging::ForPoints))
    }

    /// Notes, durably, what the image's files look like now that it is closed, so that whoever else writes to it is
    /// noticed before the next session ([`Self::recheck`]).
    pub fn released(&self, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        let left = Left {
            fingerprint: fingerprint.digest(),
            at_unix_ms: unix_ms(),
            recheck_from: *self.0.recheck_from.lock().unwrap_or_else(PoisonError::into_inner),
            look: fingerprint.look(),
        };
        Ok(self.0.journal.record(self.0.slot, Record::Released(left))?)
    }

    /// Gives up all trust, durably: the next pass scans the whole disk.
    pub fn forget(&self) -> Result<(), StoreError> {
        let mut groups = self.0.groups();
        groups.ahead.forget();
        Ok(self.0.journal.record(self.0.slot, Record::Forget)?)
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.0
    }

    /// Takes trust from the chunks whose digests are not those that were sealed.
    fn prove(&self, file: &DigestFile, root: Digest) -> Result<(), StoreError> {
        let layout = file.layout();
        let (generation, is_whole) =
            self.0.journal.read(self.0.slot, |state| (state.generation, state.trusted.is_full()));
        let held = match file.root() {
            Some(held) => held,
            // Recovery put entries into it again.
            None if is_whole => file.seal(generation.0)?,
            // A part was doubted and is being scanned: there is nothing to prove it against.
            None => return Ok(()),
        };
        let mut damaged = Vec::new();
        if held != root {
            damaged.push(layout.blocks());
        } else {
            for chunk in (0..layout.chunk_count()).map(ChunkIndex) {
                if !file.is_chunk_intact(chunk)? {
                    damaged.push(layout.chunk_blocks(chunk));
                }
            }
        }
        damaged.retain(|blocks| !blocks.is_empty());
        if !damaged.is_empty() {
            let mut groups = self.0.groups();
            groups.ahead.forget();
            for blocks in damaged.chunks(JOURNAL_RECORD_MAX_RANGES) {
                let record = Record::Doubted { blocks: blocks.to_vec() };
                self.0.journal.update(self.0.slot, |_| (vec![record], ()))?;
            }
        }
        Ok(())
    }
}

fn keeps_trust(state: &DiskFold, epoch: Epoch, layout: Layout, fingerprint: &Fingerprint) -> bool {
    let looks_the_same = match state.fingerprint {
        Some(held) => held == fingerprint.digest(),
        None => !state.is_sealed() && state.epoch == epoch,
    };
    state.layout == Some(layout) && state.digests.is_some() && looks_the_same
}

/// What the journal is told of blocks that were announced and did not change.
pub(crate) fn trusted_again(blocks: &[BlockRange]) -> Vec<Record> {
    let parts = blocks.chunks(JOURNAL_RECORD_MAX_RANGES);
    parts.map(|blocks| Record::Trusted { blocks: blocks.to_vec() }).collect()
}

impl Disk {
    /// What is trusted, unproven.
    pub(crate) fn trusted_state(&self) -> TrustedState {
        let (digests, ranges) =
            self.journal.read(self.slot, |state| (state.digests.clone(), state.trusted.runs()));
        TrustedState { digests: HeldDigests::new(digests, Arc::clone(&self.journal)), ranges }
    }

    /// Whether what is written to it must be undoable.
    pub(crate) fn is_protected(&self) -> bool {
        let is_created = |state: &JournalState| state.disks[usize::from(self.slot.0)].is_created;
        self.undo.is_some() && self.journal.look(|state| state.history.protects(self.slot, is_created(state)))
    }

    /// Digests of blocks as they stand, where they are known: of those that are trusted, and of those that were announced
    /// and are not begun.
    pub(crate) fn known_digests(&self, blocks: BlockRange) -> Result<Vec<Option<Digest>>, DiskError> {
        let mut known = vec![None; blocks.count() as usize];
        let groups = self.groups();
        let (file, trusted) =
            self.journal.read(self.slot, |state| (state.digests.clone(), state.trusted.runs_in(blocks)));
        let Some(file) = file else { return Ok(known) };
        let is_trusted = |block: BlockIndex| trusted.iter().any(|run| run.start <= block && block < run.end);
        for (at, digest) in file.digests(blocks)?.into_iter().enumerate() {
            let block = BlockIndex(blocks.start.0 + at as u64);
            if is_trusted(block) || groups.ahead.holds(block) {
                known[at] = Some(digest);
            }
        }
        Ok(known)
    }

    /// Lets a call of a session in; the guard is held while it runs.
    pub(crate) fn enter(
        &self,
        session: SessionNumber,
        operation: Operation,
        path: &Path,
    ) -> Result<RwLockReadGuard<'_, SessionNumber>, DiskError> {
        let oldest = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if session < *oldest {
            let reason = format!("session {session} of disk {} was replaced by a newer one", self.id);
            return Err(DiskError::new(Code::StaleSession, operation, path, reason));
        }
        Ok(oldest)
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what was read of blocks that the session has not touched. What is known already is not logged again.
    pub(crate) fn scanned(
        &self,
        blocks: BlockRange,
        digests: Option<&[Digest]>,
    ) -> Result<Option<Position>, DiskError> {
        let mut last = None;
        let groups = self.groups();
        for range in groups.untouched(blocks) {
            let most = if digests.is_some() { JOURNAL_RECORD_MAX_DIGESTS as u64 } else { range.count() };
            let mut at = range.start.0;
            while at < range.end.0 {
                let part = BlockRange::new(at, range.end.0.min(at + most));
                let run = digests.map(|all| {
                    let from = (part.start.0 - blocks.start.0) as usize;
                    &all[from..from + part.count() as usize]
                });
                last = last.max(self.scanned_part(part, run)?);
                at = part.end.0;
            }
        }
        Ok(last)
    }

    fn scanned_part(
        &self,
        blocks: BlockRange,
        digests: Option<&[Digest]>,
    ) -> Result<Option<Position>, DiskError> {
        let (is_trusted, file) =
            self.journal.read(self.slot, |state| (state.trusted.contains_all(blocks), state.digests.clone()));
        if let (true, Some(file)) = (is_trusted, file)
            && file.holds(blocks, digests)
        {
            return Ok(None);
        }
        let record = Record::Scanned { blocks, digests: digests.map(<[Digest]>::to_vec) };
        let (position, ()) = self.journal.update(self.slot, |_| (vec![record], ()))?;
        Ok(Some(position))
    }
}
