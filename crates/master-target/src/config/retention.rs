//! How long recovery points stay in reach, as RULES of the field have it: all for two hours, then ever fewer.

use failback_service::config::{ByteSize, Fault};
use failback_service::period::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long older recovery points stay in reach. The newest one is never dropped, nor is the original (point 0), which
/// goes by `commit` or when an operator gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Every point is kept for so long.
    #[serde(default = "keep_all")]
    pub keep_all: Period,
    /// After that, one an hour until a point is so old.
    #[serde(default = "hourly_for")]
    pub hourly_for: Period,
    /// After that, one every two hours until a point is so old.
    #[serde(default = "two_hourly_for")]
    pub two_hourly_for: Period,
    /// After that, one every four hours until a point is so old; older ones are dropped.
    #[serde(default = "four_hourly_for")]
    pub four_hourly_for: Period,
    /// What one machine's undo may take: above it the oldest points are dropped. None: what its volume has.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// Free space of the undo's file system below which no pass of a machine begins; below twice as much the status warns.
    #[serde(default = "low_space")]
    pub low_space: ByteSize,
}

const fn keep_all() -> Period {
    Period::seconds(2 * 3600)
}

const fn hourly_for() -> Period {
    Period::seconds(24 * 3600)
}

const fn two_hourly_for() -> Period {
    Period::seconds(7 * 86_400)
}

const fn four_hourly_for() -> Period {
    Period::seconds(15 * 86_400)
}

const fn low_space() -> ByteSize {
    ByteSize(1 << 30)
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            keep_all: keep_all(),
            hourly_for: hourly_for(),
            two_hourly_for: two_hourly_for(),
            four_hourly_for: four_hourly_for(),
            max_bytes: None,
            low_space: low_space(),
        }
    }
}

impl Retention {
    /// Each step reaches at least as far back as the one before it.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let steps = [
            ("keep_all", self.keep_all),
            ("hourly_for", self.hourly_for),
            ("two_hourly_for", self.two_hourly_for),
            ("four_hourly_for", self.four_hourly_for),
        ];
        let shorter = steps.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| {
            let [(before, longer), (key, period)] = [pair[0], pair[1]];
            let reason = format!("{period} is less than {before}, which is {longer}");
            Fault::new(key, reason, format!("choose at least {longer}: steps follow each other"))
        });
        shorter.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other() {
        assert_eq!(Retention::default().faults(), Vec::new());
        let short = Retention { hourly_for: Period::seconds(60), ..Retention::default() };
        let keys: Vec<_> = short.faults().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["hourly_for"]);
        let alone: Retention = serde_json::from_str("{\"keep_all\":\"1h\"}").expect("the rest has defaults");
        assert_eq!(alone, Retention { keep_all: Period::seconds(3600), ..Retention::default() });
    }
}
