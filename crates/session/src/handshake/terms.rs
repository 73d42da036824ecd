//! What both ends check of each other, each from its own side: a difference is refused whoever sees it first.

use crate::error::SessionError;
use failback_model::limits::CLOCK_SKEW_MAX;
use failback_model::{Code, ProductVersion};
use failback_wire::{Open, Version};

/// The newest version that this build and one that speaks `min..=max` have in common.
pub(super) fn common_version(min: u16, max: u16) -> Result<Version, SessionError> {
    let newest = max.min(Version::CURRENT.number());
    let common = (min..=newest).rev().find_map(Version::from_number);
    common.ok_or_else(|| {
        let (oldest, newest) = (Version::OLDEST.number(), Version::CURRENT.number());
        let reason = format!(
            "the other end speaks protocol versions {min} to {max}, this one ({}) {oldest} to {newest}",
            ProductVersion::CURRENT
        );
        SessionError { code: Code::VersionMismatch, reason }
    })
}

/// The receiving end is updated last: what it does not know yet, no sending end asks of it by accident.
pub(super) fn check_products(sending: ProductVersion, receiving: ProductVersion) -> Result<(), SessionError> {
    if receiving <= sending {
        return Ok(());
    }
    let reason = format!("the receiving end is version {receiving}, the sending end only {sending}");
    Err(SessionError { code: Code::ProductVersionOrder, reason })
}

/// A state cannot come from the future; that the sending end's clock was set back since is forgiven as its skew is.
pub(super) fn check_source_time(open: &Open) -> Result<(), SessionError> {
    let ahead_ms = open.claim.source_unix_ms.saturating_sub(open.clock_unix_ms);
    if u128::from(ahead_ms) <= CLOCK_SKEW_MAX.as_millis() {
        return Ok(());
    }
    let reason = format!("the source's state is from {ahead_ms} ms after the sending end's own clock");
    Err(SessionError { code: Code::ClocksDiffer, reason })
}

/// Clocks order points and judge certificates: they must agree roughly.
pub(super) fn check_clocks(own_unix_ms: u64, their_unix_ms: u64) -> Result<(), SessionError> {
    let skew_ms = own_unix_ms.abs_diff(their_unix_ms);
    if u128::from(skew_ms) <= CLOCK_SKEW_MAX.as_millis() {
        return Ok(());
    }
    let side = if their_unix_ms > own_unix_ms { "ahead of" } else { "behind" };
    let reason = format!(
        "the other end's clock is {skew_ms} ms {side} this one's; {} s are allowed",
        CLOCK_SKEW_MAX.as_secs()
    );
    Err(SessionError { code: Code::ClocksDiffer, reason })
}
