//! What of a log of segments is durable: one sync for all who wait, a thread for those who do not, and the latch.
//!
//! **Invariant**: a position is called durable only when a sync that began behind its write has ended well, or a
//! checkpoint holds it. A failed sync is never tried again.

use crate::segment::Segment;
use failback_blockio::{DiskError, Operation};
use failback_model::Code;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A position in the journal, over all its segments since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// A log that is open, with what whoever writes it keeps beside it.
#[derive(Debug)]
pub(crate) struct Inner<S> {
    pub(crate) segment: Segment,
    /// Position of the open segment's first byte.
    pub(crate) base_bytes: u64,
    /// Everything up to it is durable.
    pub(crate) durable: Position,
    pub(crate) state: S,
    /// Up to where somebody wants it to be durable without waiting.
    wanted: Position,
    /// Whether somebody syncs at this moment.
    is_syncing: bool,
    /// Whether the journal is about to be dropped.
    is_closing: bool,
    /// Why nothing is done any more.
    latch: Option<String>,
}

impl<S> Inner<S> {
    /// Where the journal ends now.
    pub(crate) fn end(&self) -> Position {
        self.position(self.segment.end_bytes)
    }

    /// The position of a byte of the open segment.
    pub(crate) fn position(&self, at_bytes: u32) -> Position {
        Position(self.base_bytes + u64::from(at_bytes))
    }
}

/// What the journal and its thread share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    path: PathBuf,
    inner: Mutex<Inner<S>>,
    /// Something became durable, or is wanted to, or failed.
    changed: Condvar,
    /// Whether the latch is set, for who only wants to know that.
    is_latched: AtomicBool,
}

impl<S> Shared<S> {
    /// `path` is for messages.
    pub(crate) fn new(path: &Path, segment: Segment, state: S) -> Self {
        let durable = Position(u64::from(segment.durable_bytes));
        let inner = Inner {
            segment,
            base_bytes: 0,
            durable,
            state,
            wanted: durable,
            is_syncing: false,
            is_closing: false,
            latch: None,
        };
        let (inner, is_latched) = (Mutex::new(inner), AtomicBool::new(false));
        Self { path: path.into(), inner, changed: Condvar::new(), is_latched }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(|poisoned| self.after_panic(poisoned))
    }

    /// Tells who waits that something has changed.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Returns once everything up to a position is durable. Whoever comes while nobody syncs does it for all who wait.
    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), DiskError> {
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
    fn sync<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner<S>>,
    ) -> Result<MutexGuard<'a, Inner<S>>, DiskError> {
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
    pub(crate) fn sync_soon(&self, position: Position) {
        let mut inner = self.lock();
        inner.wanted = inner.wanted.max(position);
        self.notify();
    }

    /// What the journal's thread does until the journal is closed.
    pub(crate) fn sync_what_is_asked(&self) {
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
    pub(crate) fn close(&self) {
        self.lock().is_closing = true;
        self.notify();
    }

    /// Refuses after a failure.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), DiskError> {
        match self.is_latched.load(Ordering::Relaxed) {
            true => self.check_latch(&self.lock(), operation),
            false => Ok(()),
        }
    }

    pub(crate) fn check_latch(&self, inner: &Inner<S>, operation: Operation) -> Result<(), DiskError> {
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
    pub(crate) fn failed_write(&self, inner: &mut Inner<S>, error: DiskError) -> DiskError {
        if error.code == Code::NoSpace && error.operation != Operation::Flush {
            return DiskError { code: Code::JournalFailed, ..error };
        }
        self.latched(inner, error)
    }

    fn latched(&self, inner: &mut Inner<S>, error: DiskError) -> DiskError {
        self.latch(inner, error.to_string());
        DiskError { code: Code::JournalFailed, ..error }
    }

    fn latch(&self, inner: &mut Inner<S>, reason: String) {
        inner.latch.get_or_insert(reason);
        self.is_latched.store(true, Ordering::Relaxed);
        self.notify();
    }

    fn wait<'a>(&'a self, inner: MutexGuard<'a, Inner<S>>) -> MutexGuard<'a, Inner<S>> {
        self.changed.wait(inner).unwrap_or_else(|poisoned| self.after_panic(poisoned))
    }

    /// Whatever the thread that panicked was about to do, it may be half done.
    fn after_panic<'a>(&self, poisoned: PoisonError<MutexGuard<'a, Inner<S>>>) -> MutexGuard<'a, Inner<S>> {
        let mut inner = poisoned.into_inner();
        self.latch(&mut inner, "a thread panicked within it".into());
        inner
    }
}
