//! Page-aligned buffers and the pool that bounds their bytes.
//!
//! A payload is read once into such a buffer and then shared as [`Bytes`] without a copy; the pages go back to the
//! pool when the last reference is dropped, wherever that happens.
//!
//! **Invariant**: buffers handed out and kept by one pool never hold more bytes than its budget, except for a single
//! buffer that is larger than the whole budget.

use bytes::Bytes;
use failback_model::limits::PAGE_BYTES;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

const ALIGNMENT_BYTES: usize = PAGE_BYTES as usize;

/// Whole pages of initialised memory.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: `Pages` owns its memory alone, like a `Box<[u8]>`.
unsafe impl Send for Pages {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(length_bytes: usize) -> Self {
        let capacity_bytes = capacity_for(length_bytes);
        let layout =
            Layout::from_size_align(capacity_bytes, ALIGNMENT_BYTES).expect("lengths of buffers are bounded");
        // SAFETY: the layout's size is at least one page, never zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    fn capacity_bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and nobody else owns it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Capacity of a buffer of this length: whole pages, at least one.
fn capacity_for(length_bytes: usize) -> usize {
    length_bytes.max(1).next_multiple_of(ALIGNMENT_BYTES)
}

/// Bytes whose start lies on a page, so that `O_DIRECT` can fill them.
pub struct AlignedBuffer {
    pages: Option<Pages>,
    length_bytes: usize,
    pool: Option<Arc<Shared>>,
}

impl AlignedBuffer {
    /// A zeroed buffer that belongs to no pool.
    pub fn new(length_bytes: usize) -> Self {
        Self { pages: Some(Pages::new(length_bytes)), length_bytes, pool: None }
    }

    /// Bytes it can be extended to by [`Self::set_length`].
    pub fn capacity_bytes(&self) -> usize {
        self.pages().capacity_bytes()
    }

    /// Shortens or extends it within its capacity. What an extension shows is what lay there before.
    ///
    /// Panics above the capacity.
    pub fn set_length(&mut self, length_bytes: usize) {
        assert!(length_bytes <= self.capacity_bytes(), "a buffer never grows beyond its capacity");
        self.length_bytes = length_bytes;
    }

    /// The same bytes, shareable, without a copy; the memory returns to its pool with the last reference.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn pages(&self) -> &Pages {
        self.pages.as_ref().expect("a buffer owns its pages until it is dropped")
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages hold at least `length_bytes` initialised bytes and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.pages().start.as_ptr(), self.length_bytes) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.pages().start.as_ptr(), self.length_bytes) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} of {} bytes)", self.length_bytes, self.capacity_bytes())
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let (Some(pool), Some(pages)) = (self.pool.take(), self.pages.take()) {
            pool.take_back(pages);
        }
    }
}

/// A budget of bytes, shared by clones, that hands out buffers and takes their memory back.
#[derive(Clone)]
pub struct BufferPool(Arc<Shared>);

struct Shared {
    budget_bytes: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    out_bytes: usize,
    kept: Vec<Pages>,
    kept_bytes: usize,
}

impl BufferPool {
    /// A pool of at most this many bytes.
    pub fn new(budget_bytes: usize) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { budget_bytes, state, returned: Condvar::new() }))
    }

    /// A buffer of this length; its contents are whatever was there before. Waits until the budget allows it; one
    /// larger than the whole budget waits until no other is out.
    pub fn acquire(&self, length_bytes: usize) -> AlignedBuffer {
        let capacity_bytes = capacity_for(length_bytes);
        let mut state = self.0.lock();
        while !self.0.fits(&state, capacity_bytes) {
            state = self.0.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.hand_out(state, length_bytes)
    }

    /// The same without waiting; `None` where the budget is used up.
    #[cfg(test)]
    fn try_acquire(&self, length_bytes: usize) -> Option<AlignedBuffer> {
        let state = self.0.lock();
        self.0.fits(&state, capacity_for(length_bytes)).then(|| self.hand_out(state, length_bytes))
    }

    /// Lets everyone who waits go on, now and from now on: whoever used the budget is stopping.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.returned.notify_all();
    }

    /// Bytes in buffers that are out now.
    pub fn used_bytes(&self) -> usize {
        self.0.lock().out_bytes
    }

    fn hand_out(&self, mut state: MutexGuard<'_, State>, length_bytes: usize) -> AlignedBuffer {
        let capacity_bytes = capacity_for(length_bytes);
        state.out_bytes += capacity_bytes;
        let found = state.kept.iter().rposition(|pages| pages.capacity_bytes() == capacity_bytes);
        let reused = found.map(|position| state.kept.swap_remove(position));
        if reused.is_some() {
            state.kept_bytes -= capacity_bytes;
        }
        let mut surplus = Vec::new();
        while state.out_bytes + state.kept_bytes > self.0.budget_bytes {
            let Some(pages) = state.kept.pop() else { break };
            state.kept_bytes -= pages.capacity_bytes();
            surplus.push(pages);
        }
        drop(state);
        drop(surplus);
        let pages = reused.unwrap_or_else(|| Pages::new(length_bytes));
        AlignedBuffer { pages: Some(pages), length_bytes, pool: Some(Arc::clone(&self.0)) }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({} of {} bytes used)", self.used_bytes(), self.0.budget_bytes)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, capacity_bytes: usize) -> bool {
        state.is_closed || state.out_bytes == 0 || state.out_bytes + capacity_bytes <= self.budget_bytes
    }

    fn take_back(&self, pages: Pages) {
        let mut state = self.lock();
        let capacity_bytes = pages.capacity_bytes();
        state.out_bytes -= capacity_bytes;
        if state.out_bytes + state.kept_bytes + capacity_bytes <= self.budget_bytes {
            state.kept_bytes += capacity_bytes;
            state.kept.push(pages);
        }
        drop(state);
        self.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_comes_back_with_the_last_reference() {
        let pool = BufferPool::new(8 * ALIGNMENT_BYTES);
        let mut buffer = pool.acquire(5000);
        buffer.fill(7);
        let start = buffer.as_ptr();
        assert!((start as usize).is_multiple_of(ALIGNMENT_BYTES));
        let bytes = buffer.into_bytes();
        let part = bytes.slice(4096..);
        drop(bytes);
        assert_eq!(pool.used_bytes(), 2 * ALIGNMENT_BYTES, "a slice still holds the buffer");
        assert!(part.iter().all(|&byte| byte == 7) && part.as_ptr() == start.wrapping_add(4096));
        drop(part);
        assert_eq!(pool.used_bytes(), 0);
        assert_eq!(pool.acquire(8192).as_ptr(), start, "the same memory is used again");
    }

    #[test]
    fn the_budget_holds_across_sizes_and_one_oversized_buffer_passes() {
        let pool = BufferPool::new(4 * ALIGNMENT_BYTES);
        let all: Vec<_> = (0..4).map(|_| pool.acquire(1)).collect();
        assert!(pool.try_acquire(1).is_none());
        drop(all);
        let whole = pool.acquire(4 * ALIGNMENT_BYTES);
        assert_eq!(pool.0.lock().kept_bytes, 0, "kept memory gives way to what is asked for");
        drop(whole);
        let oversized = pool.try_acquire(5 * ALIGNMENT_BYTES).expect("nothing else is out");
        assert!(pool.try_acquire(1).is_none());
        drop(oversized);
        assert!(pool.try_acquire(0).is_some_and(|empty| empty.is_empty()));
    }

    #[test]
    fn a_waiting_thread_gets_the_buffer_that_returns() {
        let pool = BufferPool::new(ALIGNMENT_BYTES);
        let held = pool.acquire(1);
        let waiter = std::thread::spawn({
            let pool = pool.clone();
            move || pool.acquire(1).len()
        });
        drop(held);
        assert_eq!(waiter.join().expect("the waiter ends"), 1);
    }
}
