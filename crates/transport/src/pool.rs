//! Memory of frames that came, used again: fresh memory costs a page fault for every 4 KiB.
//!
//! **Invariant**: what lies idle is bounded; a buffer is initialized once, and nobody sees what an earlier frame left in it.

use failback_model::limits::{POOL_IDLE_MAX_BYTES, POOL_STEP_BYTES};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// The idle buffers of one link. A clone is the same.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pool(Arc<Mutex<Idle>>);

/// A buffer of the pool, as long as its frame. Returns to the pool when it is dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl Pool {
    /// A buffer of so many bytes; what is in them is undefined.
    pub(crate) fn take(&self, length: usize) -> Buffer {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.buffers.iter().rposition(|buffer| buffer.len() >= length);
        let found = fits.map(|at| idle.buffers.swap_remove(at));
        idle.bytes -= found.as_ref().map_or(0, Vec::len);
        drop(idle);
        let bytes = found.unwrap_or_else(|| match length < POOL_STEP_BYTES {
            true => vec![0; length],
            false => vec![0; length.next_multiple_of(POOL_STEP_BYTES)],
        });
        Buffer { bytes, length, pool: self.clone() }
    }
}

impl Buffer {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Small ones come cheap from the allocator.
        if self.bytes.len() < POOL_STEP_BYTES {
            return;
        }
        let mut idle = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + self.bytes.len() <= POOL_IDLE_MAX_BYTES {
            idle.bytes += self.bytes.len();
            idle.buffers.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_idle_ones_are_bounded() {
        let pool = Pool::default();
        let many: Vec<Buffer> = (0..64).map(|_| pool.take(1 << 20)).collect();
        drop(many);
        let idle = |pool: &Pool| pool.0.lock().expect("no panic").bytes;
        assert!(idle(&pool) <= POOL_IDLE_MAX_BYTES && idle(&pool) > POOL_IDLE_MAX_BYTES / 2);
        let before = idle(&pool);
        let mut one = pool.take(700_000);
        assert_eq!((one.as_mut_slice().len(), one.as_ref().len()), (700_000, 700_000));
        assert!(idle(&pool) < before);
        drop(one);
        assert_eq!(idle(&pool), before);
        drop(pool.take(100));
        assert_eq!(idle(&pool), before, "small ones are not kept");
    }
}
