//! The wall clock, as status, events and metrics give it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    ms_of(SystemTime::now())
}

/// How far a clock that showed this just now is ahead of this host's, milliseconds; behind is negative.
pub fn offset_ms(their_unix_ms: u64) -> i64 {
    let (theirs, own) = (i128::from(their_unix_ms), i128::from(unix_ms()));
    i64::try_from(theirs - own).unwrap_or(if theirs > own { i64::MAX } else { i64::MIN })
}

/// Milliseconds since 1970 of a time in the past or the future.
pub fn ms_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time of ours for people: `2026-11-24T13:30:00Z`.
pub fn time_text(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{unix_ms} ms after 1970"), |time| format!("{time:.0}"))
}
