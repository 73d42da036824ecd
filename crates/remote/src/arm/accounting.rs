//! What Azure allows of snapshots, counted by ourselves so that no request is made to be refused.
//!
//! **Invariant**: pure; times are given. Others may count too (a backup in the cloud), so the cloud can refuse all the same.

use failback_model::limits::{
    AZURE_ACCESSES_MAX, AZURE_DIFF_BOUNDARY_BYTES, AZURE_SNAPSHOT_WINDOW, AZURE_SNAPSHOTS_MAX,
    AZURE_SNAPSHOTS_PER_WINDOW,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times at which snapshots were asked for, of each disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting(BTreeMap<String, Vec<u64>>);

impl Accounting {
    /// How long a disk's next snapshot has to wait.
    pub fn wait(&self, disk: &str, now_unix_ms: u64) -> Duration {
        let asked = self.0.get(disk).map_or(&[][..], Vec::as_slice);
        let Some(first) = asked.len().checked_sub(AZURE_SNAPSHOTS_PER_WINDOW) else { return Duration::ZERO };
        let free = asked[first].saturating_add(AZURE_SNAPSHOT_WINDOW.as_millis() as u64);
        Duration::from_millis(free.saturating_sub(now_unix_ms)).min(AZURE_SNAPSHOT_WINDOW)
    }

    /// Counts one.
    pub fn asked(&mut self, disk: &str, now_unix_ms: u64) {
        let asked = self.0.entry(disk.into()).or_default();
        asked.push(now_unix_ms);
        let surplus = asked.len().saturating_sub(AZURE_SNAPSHOTS_PER_WINDOW);
        asked.drain(..surplus);
    }

    /// Whether a disk that has so many snapshots can have one more.
    pub const fn has_room(snapshots: usize) -> bool {
        snapshots < AZURE_SNAPSHOTS_MAX
    }

    /// Whether one more of a disk's snapshots can be read beside so many.
    pub const fn has_access(open: usize) -> bool {
        open < AZURE_ACCESSES_MAX
    }
}

/// Whether Azure gives the difference between two snapshots of a disk that had these lengths, bytes.
pub const fn may_differ(base_bytes: u64, bytes: u64) -> bool {
    (base_bytes <= AZURE_DIFF_BOUNDARY_BYTES) == (bytes <= AZURE_DIFF_BOUNDARY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eighth_within_five_minutes_waits_for_the_first_to_age() {
        let mut count = Accounting::default();
        for second in 0..7 {
            assert_eq!(count.wait("d", second * 1000), Duration::ZERO, "number {second}");
            count.asked("d", second * 1000);
        }
        assert_eq!(count.wait("d", 7_000), Duration::from_secs(293));
        assert_eq!(count.wait("other", 7_000), Duration::ZERO, "each disk for itself");
        assert_eq!(count.wait("d", 300_000), Duration::ZERO);
        count.asked("d", 300_000);
        assert_eq!(count.wait("d", 300_000), Duration::from_secs(1), "then for the second");
    }

    #[test]
    fn a_clock_that_went_back_makes_nobody_wait_longer_than_the_window() {
        let mut count = Accounting::default();
        (0..7).for_each(|_| count.asked("d", 1 << 50));
        assert_eq!(count.wait("d", 0), AZURE_SNAPSHOT_WINDOW);
    }

    #[test]
    fn other_limits_are_bounds() {
        assert!(Accounting::has_room(499) && !Accounting::has_room(500));
        assert!(Accounting::has_access(4) && !Accounting::has_access(5));
        let tib = 1 << 40;
        assert!(may_differ(2 * tib, 4 * tib) && may_differ(5 * tib, 6 * tib));
        assert!(!may_differ(2 * tib, 6 * tib) && !may_differ(6 * tib, 4 * tib));
    }
}
