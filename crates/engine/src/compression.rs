//! zstd with contexts that each thread keeps: making one anew costs as much as compressing a small pack.
//!
//! **Invariant**: what is decompressed is never longer than the caller expects.

use bytes::Bytes;
use std::cell::RefCell;
use std::io;
use zstd::bulk::{Compressor, Decompressor};

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Bytes of a payload that the probe compresses.
const PROBE_BYTES: usize = 16 << 10;
/// The probe's zstd level: the cheapest.
const PROBE_LEVEL: i32 = -5;

/// Compresses; `None` where that saves less than a sixteenth, of which a cheap probe of the middle is asked first.
pub(crate) fn compress(payload: &[u8], level: i32) -> Option<Bytes> {
    let middle = payload.len() / 2;
    let probe =
        &payload[middle.saturating_sub(PROBE_BYTES / 2)..(middle + PROBE_BYTES / 2).min(payload.len())];
    if probe.is_empty() || !saves(at_level(probe, PROBE_LEVEL).ok()?.len(), probe.len()) {
        return None;
    }
    let compressed = at_level(payload, level).ok()?;
    saves(compressed.len(), payload.len()).then(|| compressed.into())
}

/// Bytes that a payload would travel as: compressed where that pays.
pub fn packed_bytes(payload: &[u8], level: i32) -> usize {
    compress(payload, level).map_or(payload.len(), |compressed| compressed.len())
}

fn saves(compressed: usize, plain: usize) -> bool {
    compressed < plain - plain / 16
}

fn at_level(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        compressor.compress(bytes)
    })
}

/// Decompresses what is exactly so long, bytes; `None` where it is not, or no zstd frame.
pub(crate) fn decompress(payload: &[u8], expected: usize) -> Option<Bytes> {
    let content = DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress(payload, expected)
    });
    content.ok().filter(|content| content.len() == expected).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_compresses_at_one_level_after_the_other() {
        let text = b"a line of a log file\n".repeat(4000);
        for level in [9, -1, 3] {
            let compressed = compress(&text, level).expect("text becomes smaller");
            assert_eq!(decompress(&compressed, text.len()).expect("it was a frame"), text);
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_contents_comes_to_nothing_and_the_next_one_is_fine() {
        let bomb = compress(&vec![0; 8 << 20], 1).expect("zeros become smaller");
        assert_eq!(decompress(&bomb, 1 << 20), None, "longer than expected");
        assert_eq!(decompress(&bomb, 16 << 20), None, "shorter than expected");
        assert_eq!(decompress(b"no frame", 1 << 20), None);
        assert_eq!(decompress(&bomb, 8 << 20).expect("what it says").len(), 8 << 20);
    }
}
