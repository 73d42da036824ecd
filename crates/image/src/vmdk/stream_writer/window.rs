//! The grains that wait for their turn.
//!
//! **Invariant**: a grain below the lowest that is still accepted never changes again; each waiting grain counts with
//! its whole size, so the window bounds memory whatever the grains deflate to.

use failback_format::vmdk::descriptor::SECTOR_BYTES;
use failback_format::vmdk::sparse::{GrainGeometry, SparseError};
use failback_format::vmdk::stream::{GRAIN_MARKER_BYTES, Marker, inflate_grain, pack_grain};
use failback_model::{ByteRange, is_zero};
use std::collections::BTreeMap;

/// A deflated grain with its marker; `None` where it is zeros and need not be stored.
pub(super) type Packed = Option<Vec<u8>>;

/// Deflates a grain.
pub(super) fn pack(geometry: GrainGeometry, grain: u64, bytes: &[u8]) -> Packed {
    (!is_zero(bytes)).then(|| pack_grain(grain * geometry.grain_sectors, bytes))
}

#[derive(Debug)]
enum Waiting {
    /// Not all sectors have come: a bit for each that has.
    Filling {
        bytes: Vec<u8>,
        sectors: u128,
    },
    /// Somebody is deflating it.
    Packing,
    Packed(Packed),
}

/// What became of bytes that were put in.
#[derive(Debug)]
pub(super) enum Put {
    /// They wait.
    Waiting,
    /// They completed the grain; the caller deflates it and calls [`Window::finish`].
    Complete(Vec<u8>),
    /// Their grain has gone out.
    Late,
}

/// The grain that must go out next.
#[derive(Debug)]
pub(super) enum Lowest {
    /// It is being deflated by somebody.
    Packing,
    /// It is ready.
    Packed(u64, Packed),
    /// It is not complete; what did not come is zero.
    Filling(u64, Vec<u8>),
}

/// Grains between the first and the last place that writes may go to.
#[derive(Debug)]
pub(super) struct Window {
    geometry: GrainGeometry,
    waiting: BTreeMap<u64, Waiting>,
    /// Grains below this have gone out or never will.
    settled: u64,
    /// A bit for each grain that anything was put into.
    written: Vec<u64>,
}

impl Window {
    /// Nothing waits.
    pub(super) fn new(geometry: GrainGeometry) -> Self {
        debug_assert!(geometry.grain_sectors <= 128, "a bit for each sector");
        let written = vec![0; geometry.grain_count().div_ceil(64) as usize];
        Self { geometry, waiting: BTreeMap::new(), settled: 0, written }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.waiting.len() as u64 * self.geometry.grain_bytes()
    }

    /// Whether somebody is deflating this grain.
    pub(super) fn is_packing(&self, grain: u64) -> bool {
        matches!(self.waiting.get(&grain), Some(Waiting::Packing))
    }

    /// Puts bytes into `part` of the disk, which lies within `grain`; nobody may be deflating that.
    pub(super) fn put(&mut self, grain: u64, part: ByteRange, bytes: &[&[u8]]) -> Result<Put, SparseError> {
        if grain < self.settled {
            return Ok(Put::Late);
        }
        let (mut whole, sectors) = match self.waiting.remove(&grain) {
            Some(Waiting::Filling { bytes, sectors }) => (bytes, sectors),
            Some(Waiting::Packed(Some(packed))) => (self.unpack(&packed)?, u128::MAX),
            Some(Waiting::Packed(None)) => (self.zeros(), u128::MAX),
            Some(Waiting::Packing) | None => (self.zeros(), 0),
        };
        let mut at = (part.start() - grain * self.geometry.grain_bytes()) as usize;
        let sectors = sectors | self.sectors_of(grain, part);
        for piece in bytes {
            whole[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        self.written[(grain / 64) as usize] |= 1 << (grain % 64);
        let all = self.sectors_of(grain, self.geometry.grain_range(grain));
        if sectors & all == all {
            self.waiting.insert(grain, Waiting::Packing);
            return Ok(Put::Complete(whole));
        }
        self.waiting.insert(grain, Waiting::Filling { bytes: whole, sectors });
        Ok(Put::Waiting)
    }

    /// A grain that was complete is deflated.
    pub(super) fn finish(&mut self, grain: u64, packed: Packed) {
        self.waiting.insert(grain, Waiting::Packed(packed));
    }

    /// Takes the lowest grain out for good, unless it is being deflated.
    pub(super) fn take_lowest(&mut self) -> Option<Lowest> {
        let lowest = self.waiting.first_entry()?;
        let grain = *lowest.key();
        if matches!(lowest.get(), Waiting::Packing) {
            return Some(Lowest::Packing);
        }
        self.settled = grain + 1;
        Some(match lowest.remove() {
            Waiting::Packing => Lowest::Packing,
            Waiting::Packed(packed) => Lowest::Packed(grain, packed),
            Waiting::Filling { bytes, .. } => Lowest::Filling(grain, bytes),
        })
    }

    /// Accepts nothing any more.
    pub(super) fn settle_all(&mut self) {
        self.settled = u64::MAX;
    }

    /// Whether anything was ever put into a grain.
    pub(super) fn was_written(&self, grain: u64) -> bool {
        self.written[(grain / 64) as usize] >> (grain % 64) & 1 == 1
    }

    /// The first grain from `from` that anything was put into.
    pub(super) fn next_written(&self, from: u64) -> Option<u64> {
        let first = (from / 64) as usize;
        let masked = |(index, &word): (usize, &u64)| {
            let word = if index == first { word & (u64::MAX << (from % 64)) } else { word };
            (word != 0).then(|| index as u64 * 64 + u64::from(word.trailing_zeros()))
        };
        self.written.iter().enumerate().skip(first).find_map(masked)
    }

    fn zeros(&self) -> Vec<u8> {
        vec![0; self.geometry.grain_bytes() as usize]
    }

    /// Bits of the sectors that `part` covers whole.
    fn sectors_of(&self, grain: u64, part: ByteRange) -> u128 {
        let base = grain * self.geometry.grain_bytes();
        let first = (part.start() - base).div_ceil(SECTOR_BYTES);
        let end = (part.end() - base) / SECTOR_BYTES;
        let below = |sector: u64| if sector >= 128 { u128::MAX } else { (1 << sector) - 1 };
        if first < end { below(end) & !below(first) } else { 0 }
    }

    /// Inflates a grain that is written again before it went out.
    fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, SparseError> {
        let mut bytes = self.zeros();
        let size_bytes = match packed.first_chunk().map(|head| Marker::parse(head, 0)) {
            Some(Ok(Marker::Grain { size_bytes, .. })) => size_bytes as usize,
            _ => 0,
        };
        let body = packed.get(GRAIN_MARKER_BYTES..GRAIN_MARKER_BYTES + size_bytes).unwrap_or_default();
        let needed = bytes.len();
        inflate_grain(body, &mut bytes, needed, 0).map(|()| bytes)
    }
}
