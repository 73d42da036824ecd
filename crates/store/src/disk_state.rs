//! One disk's state: what the records about it add up to.
//!
//! **Invariant**: the same records in the same order give the same state, while they are appended and when they are
//! recovered. Digests are put into the disk's file before the record that vouches for them counts: an entry of a block
//! that is not trusted means nothing.

use crate::block_set::BlockSet;
use crate::digest_file::DigestFile;
use failback_blockio::{DiskError, Operation};
use failback_format::journal_record::{DiskCheckpoint, Left, Record, SealedAs, Trust};
use failback_model::{BlockRange, Code, Digest, DiskId, Epoch, Generation, Layout, SessionNumber};
use std::path::Path;
use std::sync::Arc;

/// A record that does not fit the state: no journal of ours holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) &'static str);

/// State of one disk.
#[derive(Debug, Clone)]
pub(crate) struct DiskFold {
    pub(crate) id: DiskId,
    pub(crate) generation: Generation,
    pub(crate) root: Option<Digest>,
    pub(crate) epoch: Epoch,
    pub(crate) session: SessionNumber,
    pub(crate) layout: Option<Layout>,
    pub(crate) in_pass: bool,
    pub(crate) fingerprint: Option<Digest>,
    /// How it was left, while nothing of ours has written to it since.
    pub(crate) left: Option<Left>,
    /// The commit group that is open.
    pub(crate) group: u64,
    /// Whether a session made its image.
    pub(crate) is_created: bool,
    /// How the last state was sealed.
    pub(crate) sealed: Option<SealedAs>,
    pub(crate) trusted: BlockSet,
    /// The digests; there once the disk has a layout.
    pub(crate) digests: Option<Arc<DigestFile>>,
    /// Why entries of blocks that older records trusted are gone; only while it is recovered.
    pub(crate) digests_lost: Option<String>,
}

impl DiskFold {
    /// A disk of which nothing is known.
    pub(crate) fn new(id: DiskId) -> Self {
        Self {
            id,
            generation: Generation(0),
            root: None,
            epoch: Epoch(0),
            session: SessionNumber(0),
            layout: None,
            in_pass: false,
            fingerprint: None,
            left: None,
            group: 0,
            is_created: false,
            sealed: None,
            trusted: BlockSet::empty(0),
            digests: None,
            digests_lost: None,
        }
    }

    /// As a checkpoint says it.
    pub(crate) fn of_checkpoint(disk: DiskCheckpoint) -> Self {
        let blocks = disk.layout.map_or(0, Layout::block_count);
        Self {
            id: disk.id,
            generation: disk.generation,
            root: disk.root,
            epoch: disk.epoch,
            session: disk.session,
            layout: disk.layout,
            in_pass: disk.in_pass,
            fingerprint: disk.fingerprint,
            left: None,
            group: disk.group,
            is_created: disk.is_created,
            sealed: disk.sealed,
            trusted: BlockSet::empty(blocks),
            digests: None,
            digests_lost: None,
        }
    }

    /// For a checkpoint.
    pub(crate) fn checkpoint(&self) -> DiskCheckpoint {
        DiskCheckpoint {
            id: self.id.clone(),
            generation: self.generation,
            root: self.root,
            epoch: self.epoch,
            session: self.session,
            layout: self.layout,
            in_pass: self.in_pass,
            fingerprint: self.fingerprint,
            group: self.group,
            is_created: self.is_created,
            sealed: self.sealed.clone(),
        }
    }

    /// Whether the disk is the state that was sealed last, as far as the journal knows.
    pub(crate) fn is_sealed(&self) -> bool {
        self.root.is_some() && !self.in_pass
    }

    /// Puts what a record says of digests into the disk's file. Fails without harm: nothing vouches for them yet.
    pub(crate) fn keep_digests(&self, record: &Record) -> Result<(), DiskError> {
        if !matches!(record, Record::Scanned { .. } | Record::Commit { .. }) {
            return Ok(());
        }
        let Some(digests) = &self.digests else {
            let reason = format!("the digests of disk {} were not made", self.id);
            return Err(DiskError::new(
                Code::Internal,
                Operation::Write,
                Path::new(self.id.as_str()),
                reason,
            ));
        };
        match record {
            Record::Scanned { blocks, digests: Some(run) } => digests.set_run(blocks.start, run),
            Record::Scanned { blocks, digests: None } => digests.set_zeros(*blocks),
            Record::Commit { entries, zeros, .. } => {
                zeros.iter().try_for_each(|blocks| digests.set_zeros(*blocks))?;
                digests.set(entries)
            }
            _ => Ok(()),
        }
    }

    /// Whether a record can follow what was before it: sessions and generations only count up, blocks are the disk's.
    pub(crate) fn check(&self, record: &Record) -> Result<(), Misfit> {
        match record {
            Record::Session { epoch, number, layout, trust } => {
                if *number <= self.session || *epoch < self.epoch {
                    return Err(Misfit("sessions and epochs count up"));
                }
                match trust {
                    Trust::Kept if self.layout != Some(*layout) => {
                        Err(Misfit("trust of another layout is kept"))
                    }
                    Trust::Everything => Err(Misfit("a session does not vouch for a disk")),
                    Trust::Kept | Trust::Nothing => Ok(()),
                }
            }
            Record::Scanned { blocks, .. } => self.check_blocks(std::slice::from_ref(blocks)),
            Record::Intent { blocks, .. } | Record::Trusted { blocks } | Record::Doubted { blocks } => {
                self.check_blocks(blocks)
            }
            Record::Commit { entries, zeros, .. } => {
                let last = entries.last().map(|(block, _)| BlockRange::new(block.0, block.0 + 1));
                self.check_blocks(zeros)?;
                self.check_blocks(last.as_slice())
            }
            Record::Seal { generation, .. } if *generation <= self.generation => {
                Err(Misfit("generations count up"))
            }
            Record::Seal { .. } if self.layout.is_none() => Err(Misfit("a disk without a layout is sealed")),
            Record::Disk { .. } | Record::Checkpoint(_) => Err(Misfit("it introduces a disk that is known")),
            Record::Seal { .. } | Record::Released(_) | Record::Forget | Record::Created => Ok(()),
            Record::Point(_) | Record::PointDropped { .. } | Record::Phase(_) => {
                Err(Misfit("it is about the machine, not about a disk"))
            }
            Record::Undo(_) => Err(Misfit("undo is not in the journal")),
        }
    }

    fn check_blocks(&self, blocks: &[BlockRange]) -> Result<(), Misfit> {
        let count = self.layout.map_or(0, Layout::block_count);
        match blocks.last() {
            Some(last) if last.end.0 > count => Err(Misfit("it names blocks behind the disk's end")),
            _ => Ok(()),
        }
    }

    /// Takes a record that was checked.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Session { epoch, number, layout, trust } => {
                (self.epoch, self.session) = (*epoch, *number);
                if *trust == Trust::Nothing {
                    self.forget();
                }
                if self.layout != Some(*layout) {
                    self.layout = Some(*layout);
                    self.trusted = BlockSet::empty(layout.block_count());
                    self.digests = None;
                }
            }
            Record::Scanned { blocks, .. } => self.trusted.insert(*blocks),
            Record::Intent { group, blocks } => {
                blocks.iter().for_each(|range| self.trusted.remove(*range));
                self.group = self.group.max(*group);
                self.changes();
            }
            Record::Commit { group, entries, zeros } => {
                zeros.iter().for_each(|range| self.trusted.insert(*range));
                for run in entries.chunk_by(|(block, _), (next, _)| block.0 + 1 == next.0) {
                    self.trusted.insert(BlockRange::new(run[0].0.0, run[0].0.0 + run.len() as u64));
                }
                self.group = self.group.max(group.saturating_add(1));
                self.changes();
            }
            Record::Seal { generation, root, fingerprint, trust, at_unix_ms, claim } => {
                (self.generation, self.root) = (*generation, Some(*root));
                let (epoch, claim) = (self.epoch, claim.clone());
                self.sealed = Some(SealedAs { epoch, at_unix_ms: *at_unix_ms, claim });
                // Closing the image may still change its files, and whoever is killed there left no word of it.
                (self.in_pass, self.fingerprint, self.left) = (false, Some(*fingerprint), None);
                // What a seal vouches for was trusted block by block before.
                if *trust == Trust::Nothing {
                    self.trusted.clear();
                }
            }
            Record::Released(left) => {
                (self.fingerprint, self.left) = (Some(left.fingerprint), Some(left.clone()));
            }
            Record::Forget => self.forget(),
            Record::Trusted { blocks } => {
                if self.digests_lost.is_none() {
                    blocks.iter().for_each(|range| self.trusted.insert(*range));
                }
            }
            Record::Doubted { blocks } => blocks.iter().for_each(|range| self.trusted.remove(*range)),
            Record::Created => self.is_created = true,
            // None of them is a disk's: `check` refuses them.
            Record::Disk { .. }
            | Record::Checkpoint(_)
            | Record::Point(_)
            | Record::PointDropped { .. }
            | Record::Phase(_)
            | Record::Undo(_) => {}
        }
    }

    /// Something of it is about to change: how its files look says nothing any more.
    fn changes(&mut self) {
        (self.in_pass, self.fingerprint, self.left) = (true, None, None);
    }

    /// Its image was removed: what comes next is another.
    pub(crate) fn lose_image(&mut self) {
        self.forget();
        (self.layout, self.root, self.in_pass, self.digests) = (None, None, false, None);
        self.trusted = BlockSet::empty(0);
    }

    /// Nothing is trusted, and a sealed state is no longer known to be there.
    fn forget(&mut self) {
        self.trusted.clear();
        (self.fingerprint, self.left, self.digests_lost) = (None, None, None);
        self.in_pass |= self.root.is_some();
    }
}
