//! What of the journal is durable: one sync for all who wait, a thread for those who do not, and the latch.
//!
//! **Invariant**: a position is called durable only when a sync that began behind its write has ended well, or a
//! checkpoint holds it. A failed sync is never tried again.

use crate::disk_state::DiskFold;
use crate::segment::Segment;
use failback_blockio::{DiskError, Operation};
use failback_model::Code;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A position in the journal, over all its segments since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// The journal's state.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) segment: Segment,
    /// Position of the open segment's first byte.
    pub(super) base_bytes: u64,
    /// Everything up to it is durable.
    pub(super) durable: Position,
    pub(super) disks: Vec<DiskFold>,
    /// Up to where somebody wants it to be durable without waiting.
    wanted: Position,
    /// Whether somebody syncs at this moment.
    is_syncing: bool,
    /// Whether the journal is about to be dropped.
    is_closing: bool,
    /// Why nothing is done any more.
    latch: Option<String>,
}

impl Inner {
    /// Where the journal ends now.
    pub(super) fn end(&self) -> Position {
        self.position(self.segment.end_bytes)
    }

    /// The position of a byte of the open segment.
    pub(super) fn position(&self, at_bytes: u32) -> Position {
        Position(self.base_bytes + u64::from(at_bytes))
    }
}

/// What the journal and its thread share.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Something became durable, or is wanted to, or failed.
    changed: Condvar,
    /// Whether the latch is set, for who only wants to know that.
    is_latched: AtomicBool,
}

impl Shared {
    /// `path` is for messages.
    pub(super) fn new(path: &Path, segment: Segment, disks: Vec<DiskFold>) -> Self {
        let durable = Position(u64::from(segment.durable_bytes));
        let inner = Inner {
            segment,
            base_bytes: 0,
            durable,
            disks,
            wanted: durable,
            is_syncing: false,
            is_closing: false,
            latch: None,
        };
        let (inner, is_latched) = (Mutex::new(inner), AtomicBool::new(false));
        Self { path: path.into(), inner, changed: Condvar::new(), is_latched }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| self.after_panic(poisoned))
    }

    /// Tells who waits that something has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Returns once everything up to a position is durable. Whoever comes while nobody syncs does it for all who wait.
    pub(super) fn wait_durable(&self, position: Position) -> Result<(), DiskError> {
        let mut inner = self.lock();
        while inner.durable < position {
            self.check_latch(&inner, Operation::Flush)?;
            if inner.is_syncing {
                inner = self.wait(inner);
                continue;
            }
            inner = self.sync(inner)?;
        }
        Ok(())
    }

    /// Syncs what was appended so far, with the lock released meanwhile.
    fn sync<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> Result<MutexGuard<'a, Inner>, DiskError> {
        inner.is_syncing = true;
        let (device, number) = (Arc::clone(&inner.segment.device), inner.segment.number);
        let (covered, covered_bytes) = (inner.end(), inner.segment.end_bytes);
        drop(inner);
        let outcome = device.sync();
        let mut inner = self.lock();
        inner.is_syncing = false;
        self.notify();
        outcome.map_err(|error| self.latched(&mut inner, error))?;
        inner.durable = inner.durable.max(covered);
        if inner.segment.number == number {
            inner.segment.durable_bytes = inner.segment.durable_bytes.max(covered_bytes);
        }
        Ok(inner)
    }

    /// Has everything up to a position made durable, and returns at once. What fails is latched.
    pub(super) fn sync_soon(&self, position: Position) {
        let mut inner = self.lock();
        inner.wanted = inner.wanted.max(position);
        self.notify();
    }

    /// What the journal's thread does until the journal is closed.
    pub(super) fn sync_what_is_asked(&self) {
        let mut inner = self.lock();
        while !inner.is_closing && inner.latch.is_none() {
            if inner.durable >= inner.wanted || inner.is_syncing {
                inner = self.wait(inner);
                continue;
            }
            match self.sync(inner) {
                Ok(again) => inner = again,
                // Whoever needs it will be told.
                Err(_) => return,
            }
        }
    }

    /// Ends the journal's thread.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.notify();
    }

    /// Refuses after a failure.
    pub(super) fn check(&self, operation: Operation) -> Result<(), DiskError> {
        match self.is_latched.load(Ordering::Relaxed) {
            true => self.check_latch(&self.lock(), operation),
            false => Ok(()),
        }
    }

    pub(super) fn check_latch(&self, inner: &Inner, operation: Operation) -> Result<(), DiskError> {
        match &inner.latch {
            None => Ok(()),
            Some(first) => {
                let reason = format!("an earlier failure stopped it ({first})");
                Err(DiskError::new(Code::JournalLatched, operation, &self.path, reason))
            }
        }
    }

    /// A write that failed: with space freed it can be tried again, anything else is final. So is a sync, whatever it
    /// says.
    pub(super) fn failed_write(&self, inner: &mut Inner, error: DiskError) -> DiskError {
        if error.code == Code::NoSpace && error.operation != Operation::Flush {
            return DiskError { code: Code::JournalFailed, ..error };
        }
        self.latched(inner, error)
    }

    fn latched(&self, inner: &mut Inner, error: DiskError) -> DiskError {
        self.latch(inner, error.to_string());
        DiskError { code: Code::JournalFailed, ..error }
    }

    fn latch(&self, inner: &mut Inner, reason: String) {
        inner.latch.get_or_insert(reason);
        self.is_latched.store(true, Ordering::Relaxed);
        self.notify();
    }

    fn wait<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.changed.wait(inner).unwrap_or_else(|poisoned| self.after_panic(poisoned))
    }

    /// Whatever the thread that panicked was about to do, it may be half done.
    fn after_panic<'a>(&self, poisoned: PoisonError<MutexGuard<'a, Inner>>) -> MutexGuard<'a, Inner> {
        let mut inner = poisoned.into_inner();
        self.latch(&mut inner, "a thread panicked within it".into());
        inner
    }
}
