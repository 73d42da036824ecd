//! The sink of a session: writes in place by the journal's rules.
//!
//! **Invariant**: intents, and what a page holds that no undo of its group holds yet, are durable before a block changes; a
//! commit's record is written after the image's flush and is durable before the commit returns; nothing is done for a
//! session that was replaced, or after a commit failed.

use crate::ahead::Announcement;
use crate::block_set::united;
use crate::disk::{Disk, trusted_again};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::journal::Position;
use crate::look::unix_ms;
use crate::old_pages::log_old_pages;
use crate::page_runs::pages_covering;
use failback_blockio::{Access, Device, DiskError, FileDevice, Operation, Zeroing};
use failback_engine::Sink;
use failback_format::journal_record::{Record, Trust};
use failback_image::{Image, Provisioning};
use failback_model::limits::{JOURNAL_RECORD_MAX_DIGESTS, JOURNAL_RECORD_MAX_RANGES};
use failback_model::{
    BlockIndex, BlockRange, ByteRange, Code, Digest, Generation, Layout, PointClaim, SessionNumber,
};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// In the place of a seal's time where no pass sealed, but a way back: no point comes of it but that way's own.
pub(crate) const PUT_BACK: u64 = 0;

/// Where a session writes to.
pub(crate) struct JournaledSink {
    disk: Arc<Disk>,
    image: Arc<dyn Image>,
    session: SessionNumber,
    layout: Option<Layout>,
    claim: PointClaim,
    logging: Logging,
    /// How far a way back writes: to the image's end. 0 for a pass, which ends with its disk.
    reach_bytes: u64,
    /// Whether what earlier sessions left in the kernel's cache is durable.
    is_settled: Mutex<bool>,
    /// The first commit that failed.
    failed: OnceLock<String>,
}

/// Whether what changes can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logging {
    /// It is logged where a point of the machine holds the disk.
    ForPoints,
    /// Nothing is logged: what changes is in the log already.
    Nothing,
}

impl JournaledSink {
    pub(crate) fn new(
        disk: Arc<Disk>,
        image: Arc<dyn Image>,
        session: SessionNumber,
        claim: PointClaim,
        logging: Logging,
    ) -> Self {
        let layout = disk.journal.read(disk.slot, |state| state.layout);
        let (is_settled, failed) = (Mutex::new(false), OnceLock::new());
        Self { disk, image, session, layout, claim, logging, reach_bytes: 0, is_settled, failed }
    }

    /// The sink of a way back.
    pub(crate) fn back(self) -> Self {
        let reach_bytes = self.image.geometry().length_bytes;
        Self { reach_bytes, ..self }
    }

    /// Zeros keep the target's provisioning: a thin image gives their space back, unless a way back may need it.
    fn zeroing(&self) -> Zeroing {
        match self.image.provisioning() {
            Provisioning::Thin if !self.disk.is_protected() => Zeroing::Punch,
            _ => Zeroing::KeepAllocation,
        }
    }

    /// Logs what these bytes hold, where a way back needs it and this group has not. Up to where the log must be durable.
    fn log_old(&self, changes: &[ByteRange]) -> Result<Option<Position>, DiskError> {
        let (Some(undo), Some(layout)) = (&self.disk.undo, self.layout) else { return Ok(None) };
        if self.logging == Logging::Nothing || !self.disk.is_protected() {
            return Ok(None);
        }
        let (group, fresh) = {
            let mut groups = self.disk.groups();
            (groups.number(), groups.touch(&pages_covering(changes)))
        };
        let known = |blocks| self.disk.known_digests(blocks);
        log_old_pages(undo, self.disk.slot, group, &*self.image, layout, &fresh, &known)
    }

    /// Makes durable what was logged.
    fn settle_log(&self, position: Option<Position>) -> Result<(), DiskError> {
        match (&self.disk.undo, position) {
            (Some(undo), Some(position)) => undo.wait_durable(position),
            _ => Ok(()),
        }
    }

    fn refuse(&self, code: Code, operation: Operation, reason: impl Into<String>) -> DiskError {
        DiskError::new(code, operation, self.image.name(), reason)
    }

    /// Refuses after the journal failed, or a commit: what that was about is unknown until the next session.
    fn check(&self, operation: Operation) -> Result<(), DiskError> {
        match self.failed.get() {
            None => {
                self.disk.undo.as_ref().map_or(Ok(()), |undo| undo.check(operation))?;
                self.disk.journal.check(operation)
            }
            Some(first) => {
                let reason = format!("an earlier commit failed ({first})");
                Err(self.refuse(Code::JournalLatched, operation, reason))
            }
        }
    }

    /// Blocks that are the disk's; anything else is our own mistake.
    fn require_blocks(&self, operation: Operation, blocks: BlockRange) -> Result<(), DiskError> {
        match self.layout {
            Some(layout) if blocks.end.0 <= layout.block_count() => Ok(()),
            _ => Err(self.refuse(Code::Internal, operation, format!("{blocks:?} are no blocks of the disk"))),
        }
    }

    /// Bytes whose blocks were all begun; anything else is our own mistake. What a way back puts behind the end of the disk
    /// that was sealed is of no block.
    fn require_begun(&self, operation: Operation, bytes: ByteRange) -> Result<(), DiskError> {
        let is_begun = self.layout.is_some_and(|layout| {
            let within = bytes.intersection(layout.bytes_of(layout.blocks()));
            let blocks = within.map(|within| layout.blocks_covering(within));
            bytes.end() <= self.reach_bytes.max(layout.length_bytes())
                && blocks.is_none_or(|blocks| self.disk.groups().is_begun(blocks))
        });
        match is_begun {
            true => Ok(()),
            false => Err(self.refuse(Code::Internal, operation, format!("bytes {bytes:?} were not begun"))),
        }
    }

    /// Makes durable what was written to the image before this session: what is scanned now must still be there after a
    /// power cut, or the journal must not say so.
    fn settle(&self) -> Result<(), DiskError> {
        let mut is_settled = self.is_settled.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_settled {
            self.image.flush()?;
            // An image that was not written to since it was opened has nothing to flush, its files may.
            for path in &self.image.identity().files {
                match FileDevice::open(path, Access::Read) {
                    Ok(file) => file.sync()?,
                    Err(error) if is_not_found(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            *is_settled = true;
        }
        Ok(())
    }

    /// Closes the open group, flushes the image and makes the group's record durable.
    fn commit_group(&self) -> Result<(), DiskError> {
        self.check(Operation::Flush)?;
        self.try_commit().inspect_err(|error| {
            let _first_wins = self.failed.set(error.to_string());
        })
    }

    fn try_commit(&self) -> Result<(), DiskError> {
        let closed = self.disk.groups().close();
        self.image.flush()?;
        let groups = self.disk.groups();
        let group = groups.number() - 1;
        let (entries, zeros) = groups.settle(closed);
        let mut end = self.disk.journal.update(self.disk.slot, |_| (Vec::new(), ()))?.0;
        let mut append = |record| {
            end = self.disk.journal.update(self.disk.slot, |_| (vec![record], ()))?.0;
            Ok::<(), DiskError>(())
        };
        for zeros in zeros.chunks(JOURNAL_RECORD_MAX_RANGES) {
            append(Record::Commit { group, entries: Vec::new(), zeros: zeros.to_vec() })?;
        }
        for entries in entries.chunks(JOURNAL_RECORD_MAX_DIGESTS) {
            append(Record::Commit { group, entries: entries.to_vec(), zeros: Vec::new() })?;
        }
        drop(groups);
        self.disk.journal.wait_durable(end)
    }

    /// Commits, and seals what the digests at hand say; where they do not give this root, nothing is trusted.
    fn seal_state(&self, root: Digest) -> Result<u64, DiskError> {
        let (generation, fingerprint, found) = self.prepare_seal()?;
        let trust = if found == Some(root) { Trust::Everything } else { Trust::Nothing };
        self.record_seal(generation, root, fingerprint, trust, unix_ms())?;
        Ok(generation.0)
    }

    /// Commits, and seals what was put back. An error where the disk is not known whole, or not this root.
    pub(crate) fn seal_restored(&self, root: Option<Digest>) -> Result<(Generation, Digest), StoreError> {
        let (generation, fingerprint, found) = self.prepare_seal()?;
        let name = self.image.name().display();
        match found {
            Some(found) if root.is_none_or(|root| root == found) => {
                self.record_seal(generation, found, fingerprint, Trust::Everything, PUT_BACK)?;
                Ok((generation, found))
            }
            Some(found) => {
                let root = root.expect("it differs from one");
                let reason = format!("{name}: what was put back has the root {found}, the point has {root}");
                Err(StoreError::UndoDamaged(reason))
            }
            None => Err(StoreError::UndoDamaged(format!("{name}: not all of it is known"))),
        }
    }

    /// Commits; the next generation, how the image looks, and the root of what is held where all of it is known.
    fn prepare_seal(&self) -> Result<(Generation, Digest, Option<Digest>), DiskError> {
        self.commit_group()?;
        // What was announced ahead did not change.
        let released = trusted_again(&self.disk.groups().ahead.release_all());
        self.disk.journal.update(self.disk.slot, |_| (released, ()))?;
        let epoch = self.disk.journal.read(self.disk.slot, |state| state.epoch);
        // Now, so that whoever waits for the disk behind the seal does not wait for its files' times.
        let fingerprint = Fingerprint::of_settled_image(&*self.image, epoch)?.digest();
        let (digests, is_known, generation) = self.disk.journal.read(self.disk.slot, |state| {
            (state.digests.clone(), state.trusted.is_full(), state.generation.next())
        });
        let found = match digests {
            Some(digests) if is_known => Some(digests.seal(generation.0)?),
            _ => None,
        };
        Ok((generation, fingerprint, found))
    }

    fn record_seal(
        &self,
        generation: Generation,
        root: Digest,
        fingerprint: Digest,
        trust: Trust,
        at_unix_ms: u64,
    ) -> Result<(), DiskError> {
        let claim = self.claim.clone();
        let seal = Record::Seal { generation, root, fingerprint, trust, at_unix_ms, claim };
        self.disk.journal.record(self.disk.slot, seal)
    }
}

impl Sink for JournaledSink {
    fn scanned(&self, blocks: BlockRange, digests: Option<&[Digest]>) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Read, self.image.name())?;
        self.check(Operation::Read)?;
        self.require_blocks(Operation::Read, blocks)?;
        self.settle()?;
        self.disk.scanned(blocks, digests)?;
        Ok(())
    }

    fn begin(&self, blocks: &[BlockRange], changes: &[ByteRange]) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Write, self.image.name())?;
        self.check(Operation::Write)?;
        blocks.iter().try_for_each(|range| self.require_blocks(Operation::Write, *range))?;
        let logged_at = self.log_old(changes).inspect_err(|_| self.disk.groups().forget_logged())?;
        let mut groups = self.disk.groups();
        let group = groups.number();
        // First, so that none of them is released with others.
        let announced_at = blocks.iter().filter_map(|range| groups.ahead.take(*range)).max();
        if announced_at.is_some_and(|position| !self.disk.journal.is_durable(position)) {
            groups.ahead.waited();
        }
        let update = self.disk.journal.update(self.disk.slot, |state| {
            let known = blocks.iter().flat_map(|range| state.trusted.runs_in(*range)).collect();
            let known = united(known);
            // What is unknown already needs no record, unless it is the first to say that the disk changes.
            if !known.is_empty() || !state.in_pass || state.fingerprint.is_some() {
                groups.ahead.waited();
                return (told(group, &groups.ahead.announce(&known, &state.trusted)), Log::Waited);
            }
            match groups.ahead.announce_next(blocks, &state.trusted) {
                Some(next) => (told(group, &next), Log::Ahead),
                None => (Vec::new(), Log::Nothing),
            }
        });
        let (end, log) = update.inspect_err(|_| groups.forget_logged())?;
        blocks.iter().for_each(|range| groups.begin(*range));
        let durable_at = groups.begun_at(if log == Log::Waited { Some(end) } else { announced_at });
        if log != Log::Nothing {
            groups.ahead.logged(end);
        }
        drop(groups);
        if log == Log::Ahead {
            self.disk.journal.sync_soon(end);
        }
        self.settle_log(logged_at)?;
        durable_at.map_or(Ok(()), |position| self.disk.journal.wait_durable(position))
    }

    fn read_old(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.image.read_at(offset_bytes, buffer)
    }

    fn write(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Write, self.image.name())?;
        self.check(Operation::Write)?;
        let range = ByteRange::at(offset_bytes, bytes.len() as u64)
            .ok_or_else(|| self.refuse(Code::Internal, Operation::Write, "a write passes 2^64"))?;
        self.require_begun(Operation::Write, range)?;
        self.image.write_at(offset_bytes, bytes)
    }

    fn zero(&self, range: ByteRange) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Zero, self.image.name())?;
        self.check(Operation::Zero)?;
        self.require_begun(Operation::Zero, range)?;
        self.image.zero(range, self.zeroing())
    }

    fn applied(&self, digests: &[(BlockIndex, Digest)], zeroed: &[BlockRange]) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Write, self.image.name())?;
        self.check(Operation::Write)?;
        let single = digests.iter().map(|(block, _)| BlockRange::new(block.0, block.0 + 1));
        zeroed
            .iter()
            .copied()
            .chain(single)
            .try_for_each(|range| self.require_blocks(Operation::Write, range))?;
        let mut groups = self.disk.groups();
        zeroed.iter().for_each(|range| groups.zeroed(*range));
        digests.iter().for_each(|(block, digest)| groups.applied(*block, *digest));
        Ok(())
    }

    fn commit(&self) -> Result<(), DiskError> {
        let _session = self.disk.enter(self.session, Operation::Flush, self.image.name())?;
        let _alone = self.disk.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit_group()
    }

    fn seal(&self, root: Digest) -> Result<u64, DiskError> {
        let _session = self.disk.enter(self.session, Operation::Flush, self.image.name())?;
        let _alone = self.disk.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.seal_state(root)
    }
}

/// What a begin logs.
#[derive(PartialEq, Eq)]
enum Log {
    /// Nothing: all of it was logged before.
    Nothing,
    /// What it waits for.
    Waited,
    /// What later ones need.
    Ahead,
}

/// The records that say what was announced; without blocks, that the disk changes.
fn told(group: u64, announcement: &Announcement) -> Vec<Record> {
    let parts = announcement.intended.chunks(JOURNAL_RECORD_MAX_RANGES);
    let mut records: Vec<_> = parts.map(|blocks| Record::Intent { group, blocks: blocks.to_vec() }).collect();
    if records.is_empty() {
        records.push(Record::Intent { group, blocks: Vec::new() });
    }
    records.extend(trusted_again(&announcement.released));
    records
}

fn is_not_found(error: &DiskError) -> bool {
    error.source.as_ref().is_some_and(|source| source.kind() == io::ErrorKind::NotFound)
}
