//! What must hold for every image that opens, whatever its bytes are.

use failback_blockio::{DiskError, Zeroing};
use failback_image::Image;
use failback_model::limits::DISK_MAX_BYTES;
use failback_model::{ByteRange, is_zero};
use std::sync::Arc;

/// Runs of data and gaps between them that are looked at.
const RUNS_MAX: usize = 8;
/// Bytes read at one place.
const PIECE_BYTES: u64 = 6000;
/// Disks up to this are checked whole: a check reads what there is.
const CHECKED_MAX_BYTES: u64 = 64 << 20;

/// Reads here and there. Length and edges are kept, whole and halved reads agree, holes read as zero.
pub(crate) fn explore(image: &dyn Image) {
    let length = image.geometry().length_bytes;
    assert!(length <= DISK_MAX_BYTES);
    assert!(image.read_at(length, &mut [0]).is_err(), "a read behind the end");
    assert!(image.read_at(u64::MAX, &mut [0, 0]).is_err(), "a read past 2^64");
    let (_identity, _provisioning) = (image.identity(), image.provisioning());
    let _allocated = image.allocated_bytes();
    for place in [0, length / 3, length.saturating_sub(PIECE_BYTES)] {
        halves_agree(image, piece(length, place));
    }
    let mut at = 0;
    for _ in 0..RUNS_MAX {
        let Ok(run) = image.next_data(at) else { break };
        let data = run.unwrap_or(ByteRange::new(length, length));
        assert!(data.start() >= at && data.end() <= length, "{data:?} from {at} of {length}");
        assert!(run.is_none_or(|run| !run.is_empty()), "an empty run");
        for place in [at, data.start().saturating_sub(PIECE_BYTES).max(at)] {
            let hole = piece(data.start(), place);
            let mut bytes = vec![1; hole.length_bytes() as usize];
            assert!(
                image.read_at(hole.start(), &mut bytes).is_err() || is_zero(&bytes),
                "data in a hole: {hole:?}"
            );
        }
        halves_agree(image, piece(length, data.start()));
        at = data.end();
    }
    if length <= CHECKED_MAX_BYTES {
        let _findings = image.check();
    }
}

/// Up to [`PIECE_BYTES`] bytes from `place`, ending at `end` at the latest.
fn piece(end: u64, place: u64) -> ByteRange {
    ByteRange::new(place, end.min(place.saturating_add(PIECE_BYTES)).max(place))
}

fn halves_agree(image: &dyn Image, range: ByteRange) {
    let mut whole = vec![0xee; range.length_bytes() as usize];
    let mut halves = vec![0xdd; whole.len()];
    let middle = whole.len() / 2;
    let (first, second) = halves.split_at_mut(middle);
    let in_one = image.read_at(range.start(), &mut whole);
    let in_two = image
        .read_at(range.start(), first)
        .and_then(|()| image.read_at(range.start() + middle as u64, second));
    assert_eq!(in_one.is_ok(), in_two.is_ok(), "{range:?}: {in_one:?} or {in_two:?}");
    assert!(in_one.is_err() || whole == halves, "{range:?} reads differently in two pieces");
}

/// Writes, zeroes, flushes, closes and opens anew. What was accepted reads back and what lies around it stays; an
/// image that was written to and closed opens again. An error ends it: the image refused.
pub(crate) fn rewrite(image: &dyn Image, reopen: impl FnOnce() -> Result<Arc<dyn Image>, DiskError>) {
    let Some(changed) = change(image) else { return };
    let before: Vec<_> = changed.iter().map(|range| around(image, *range)).collect();
    if image.close().is_err() {
        return;
    }
    let again = reopen().unwrap_or_else(|error| panic!("an image that was closed cleanly: {error}"));
    let after: Vec<_> = changed.iter().map(|range| around(again.as_ref(), *range)).collect();
    assert!(before == after, "another disk after closing and opening");
}

/// The ranges that were changed; `None` where the image refused.
fn change(image: &dyn Image) -> Option<Vec<ByteRange>> {
    let length = image.geometry().length_bytes;
    let mut changed = Vec::new();
    for (number, place) in [0, length / 2, length.saturating_sub(700), length / 3].into_iter().enumerate() {
        let range = ByteRange::new(place, length.min(place + 700 + 70_000 * (number as u64 % 2)));
        let (wide, mut expected) = around(image, range)?;
        let inside = (range.start() - wide.start()) as usize..(range.end() - wide.start()) as usize;
        if number < 3 {
            let bytes = pattern(inside.len(), number as u8 * 2);
            image.write_at(range.start(), &bytes).ok()?;
            expected[inside].copy_from_slice(&bytes);
        } else {
            image.zero(range, Zeroing::Punch).ok()?;
            expected[inside].fill(0);
        }
        assert!(around(image, range)?.1 == expected, "{range:?} was changed and reads otherwise");
        changed.push(range);
    }
    image.flush().ok()?;
    Some(changed)
}

/// A range, widened, and its bytes; `None` where they cannot be read.
fn around(image: &dyn Image, range: ByteRange) -> Option<(ByteRange, Vec<u8>)> {
    let end = image.geometry().length_bytes.min(range.end() + 700);
    let wide = ByteRange::new(range.start().saturating_sub(700), end);
    let mut bytes = vec![0; wide.length_bytes() as usize];
    image.read_at(wide.start(), &mut bytes).ok()?;
    Some((wide, bytes))
}

/// Bytes of which none is zero.
pub(crate) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| ((i % 251) as u8 ^ seed) | 1).collect()
}
