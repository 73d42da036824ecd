//! Extent lists of other programs.

use failback_remote::parse_extents;

/// Length of the disk that lists are of.
const LENGTH_BYTES: u64 = 1 << 30;

/// Parses; what is used is ascending, apart, and within the disk.
pub fn extents(data: &[u8]) {
    let Ok(runs) = parse_extents(data, LENGTH_BYTES) else { return };
    assert!(runs.iter().all(|run| !run.is_empty() && run.end() <= LENGTH_BYTES));
    assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].start()), "joined where they touch");
}
