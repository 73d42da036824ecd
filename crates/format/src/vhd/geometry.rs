//! Cylinders, heads and sectors of a VHD, by the algorithm in the appendix of the specification.

/// Most sectors that the geometry can express; a larger disk gets this one.
const SECTORS_MAX: u64 = 65_535 * 16 * 255;

/// A geometry as the footer holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChsGeometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors in a track.
    pub sectors_per_track: u8,
}

impl ChsGeometry {
    /// The geometry of a disk of so many sectors; the product may be smaller by a cylinder.
    pub fn of_sectors(sectors: u64) -> Self {
        let sectors = sectors.min(SECTORS_MAX);
        let (per_track, heads) =
            if sectors >= 65_535 * 16 * 63 { (255, 16) } else { Self::of_small(sectors) };
        Self {
            cylinders: u16::try_from(sectors / per_track / heads).expect("bounded by SECTORS_MAX"),
            heads: heads as u8,
            sectors_per_track: per_track as u8,
        }
    }

    /// Sectors per track and heads of a disk below 65535 cylinders of 16 heads and 63 sectors: the fewest sectors
    /// per track that keep the cylinders below 1024 are taken.
    fn of_small(sectors: u64) -> (u64, u64) {
        let tracks = sectors / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if heads <= 16 && tracks < heads * 1024 {
            (17, heads)
        } else if sectors / 31 < 16 * 1024 {
            (31, 16)
        } else {
            (63, 16)
        }
    }

    /// Sectors that it can address.
    pub fn sectors(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors_per_track)
    }

    pub(super) fn encode(self) -> [u8; 4] {
        let [high, low] = self.cylinders.to_be_bytes();
        [high, low, self.heads, self.sectors_per_track]
    }

    pub(super) fn decode([high, low, heads, sectors_per_track]: [u8; 4]) -> Self {
        Self { cylinders: u16::from_be_bytes([high, low]), heads, sectors_per_track }
    }
}
