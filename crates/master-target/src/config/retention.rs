//! How long recovery points stay in reach.

use failback_model::limits::{KEEP_ALL_DEFAULT, KEEP_HOURLY_DEFAULT, LOW_SPACE_DEFAULT_BYTES};
use failback_service::config::{ByteSize, Fault};
use failback_service::period::Period;
use failback_store::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long older recovery points stay in reach: all for a while, then one an hour up to a day, one in two hours up to a week, one in
/// four hours up to 15 days. The newest one is never dropped, nor is the original (point 0), which goes by `commit` or when
/// an operator gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How long points are kept at all, at most 15d; the newest app-consistent one stays beyond that.
    #[serde(default = "keep")]
    pub keep: Period,
    /// Every point is kept for so long.
    #[serde(default = "keep_all")]
    pub keep_all: Period,
    /// What one machine's undo may take: above it the oldest points are dropped. None: what its volume has.
    #[serde(default)]
    pub max_bytes: Option<ByteSize>,
    /// Free space of the undo's file system below which no pass of a machine begins; below twice as much the status warns.
    #[serde(default = "low_space")]
    pub low_space: ByteSize,
}

const fn keep() -> Period {
    Period(KEEP_HOURLY_DEFAULT)
}

const fn keep_all() -> Period {
    Period(KEEP_ALL_DEFAULT)
}

const fn low_space() -> ByteSize {
    ByteSize(LOW_SPACE_DEFAULT_BYTES)
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: keep(), keep_all: keep_all(), max_bytes: None, low_space: low_space() }
    }
}

impl Retention {
    /// As the store asks for it.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            keep: self.keep.0,
            keep_all: self.keep_all.0,
            max_bytes: self.max_bytes.map(|bytes| bytes.0),
        }
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let long = (self.keep.0 > Policy::KEEP_MAX).then(|| {
            let most = Period(Policy::KEEP_MAX);
            Fault::new(
                "keep",
                format!("{} is longer than {most}", self.keep),
                format!("choose at most {most}"),
            )
        });
        let less = (self.keep < self.keep_all).then(|| {
            let (keep, all) = (self.keep, self.keep_all);
            Fault::new("keep_all", format!("{all} is more than keep, which is {keep}"), "choose at most keep")
        });
        long.into_iter().chain(less).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named_and_what_is_left_out_has_a_default() {
        assert_eq!(Retention::default().faults(), Vec::new());
        assert_eq!(Retention::default().policy(), Policy::default());
        let wrong: Retention =
            serde_json::from_str(r#"{"keep":"16d","keep_all":"17d"}"#).expect("each alone is right");
        let keys: Vec<_> = wrong.faults().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["keep", "keep_all"]);
        assert_eq!(wrong.low_space, Retention::default().low_space);
    }
}
