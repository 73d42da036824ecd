//! Which point a machine goes back to, and why no newer one: for whoever has to decide in a hurry, before anything is done.
//!
//! **Invariant**: the original is taken only by its number: what the site had before is never "the latest". An answer names every
//! newer point that was passed over, with the reason.

mod group;

pub use group::{Blocked, Blocker, GroupChoice, GroupRefusal, Member, Picked, choose_for_group};

use crate::look::time_text;
use crate::point::Point;
use failback_model::{Code, Finding, PointLabel};
use std::fmt;
use std::str::FromStr;

/// Which point is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The newest.
    Latest,
    /// The newest whose applications were quiesced, or whose source was off.
    AppConsistent,
    /// This one.
    Number(u64),
    /// The newest whose source was in that state at this time or before, milliseconds since 1970.
    Time(u64),
}

/// A text that names no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is none of: latest, app-consistent, a point's number, or a time such as 2026-11-24T10:00:00Z or \
     @1795514400 (seconds since 1970)"
)]
pub struct WishError(String);

/// Numbers from here on are seconds since 1970, as of 2001: no machine has so many points.
const SECONDS_FROM: u64 = 1_000_000_000;

impl FromStr for Wish {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Self, WishError> {
        let wrong = || WishError(text.chars().take(64).collect());
        let seconds = |text: &str| {
            let seconds = text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            seconds.and_then(|seconds| seconds.checked_mul(1000)).map(Self::Time)
        };
        match text {
            "latest" => Ok(Self::Latest),
            "app-consistent" => Ok(Self::AppConsistent),
            _ if text.starts_with('@') => seconds(&text[1..]).ok_or_else(wrong),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
                Ok(number @ ..SECONDS_FROM) => Ok(Self::Number(number)),
                _ => seconds(text).ok_or_else(wrong),
            },
            _ => {
                let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
                u64::try_from(time.as_millisecond()).map(Self::Time).map_err(|_| wrong())
            }
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::AppConsistent => f.write_str("app-consistent"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Time(unix_ms) => f.write_str(&time_text(*unix_ms)),
        }
    }
}

/// A newer point that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its number.
    pub number: u64,
    /// When its source was like that.
    pub source_unix_ms: u64,
    /// Why it was not taken.
    pub why: String,
}

/// The point that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The point.
    pub point: Point,
    /// How much older its source is than the newest point's.
    pub lost_ms: u64,
    /// Newer points, the newest first, and why each was not taken.
    pub passed: Vec<Passed>,
    /// It is what the disks were before the first pass.
    pub is_original: bool,
}

/// No point is what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The machine has none yet.
    #[error("the machine has no recovery point yet: all its disks have to be sealed by one job")]
    NoPoint,
    /// None of them is app-consistent.
    #[error("none of its {count} points is app-consistent; the newest, {newest}, is {label}{why}")]
    NoneAppConsistent {
        /// How many there are.
        count: usize,
        /// The newest.
        newest: u64,
        /// What that one is.
        label: PointLabel,
        /// Why it is no more.
        why: String,
    },
    /// There is none with this number.
    #[error("there is no point {0}; there are {1}")]
    Unknown(u64, String),
    /// All are newer.
    #[error("all points are newer than {}; the oldest is {number}, of {}", time_text(*asked), time_text(*oldest))]
    NoneBefore {
        /// What was asked for.
        asked: u64,
        /// The oldest point.
        number: u64,
        /// When its source was like that.
        oldest: u64,
    },
}

impl ChoiceError {
    /// As a finding with what to do.
    pub fn to_finding(&self) -> Finding {
        let finding = Finding::error(Code::PointUnknown, self.to_string());
        match self {
            Self::NoPoint => finding.with_remedy("wait until every disk's pass is sealed: 'failback status'"),
            Self::NoneAppConsistent { .. } => finding.with_remedy(
                "take 'latest', or give the machine hooks (docs/operating.md, \"What a point is worth\") and bring it home again",
            ),
            _ => finding,
        }
    }
}

/// Chooses a machine's point.
pub fn choose(points: &[Point], wish: Wish) -> Result<Choice, ChoiceError> {
    let brought = || brought(points);
    let newest = brought().max_by_key(|point| recency(points, point));
    let chosen = match wish {
        Wish::Number(number) => {
            let found = points.iter().find(|point| point.number == number);
            let unknown = || ChoiceError::Unknown(number, numbers(points));
            return Ok(choice(points, newest, found.ok_or_else(unknown)?, wish));
        }
        Wish::Latest => newest,
        Wish::AppConsistent => brought()
            .filter(|point| point.claim.label.is_app_consistent())
            .max_by_key(|point| recency(points, point)),
        Wish::Time(unix_ms) => brought()
            .filter(|point| point.claim.source_unix_ms <= unix_ms)
            .max_by_key(|point| (point.claim.source_unix_ms, point.number)),
    };
    let newest = newest.ok_or(ChoiceError::NoPoint)?;
    let chosen = chosen.ok_or_else(|| match wish {
        Wish::Time(asked) => {
            let oldest = brought().min_by_key(|point| point.claim.source_unix_ms).unwrap_or(newest);
            ChoiceError::NoneBefore { asked, number: oldest.number, oldest: oldest.claim.source_unix_ms }
        }
        _ => ChoiceError::NoneAppConsistent {
            count: brought().count(),
            newest: newest.number,
            label: newest.claim.label,
            why: because(newest),
        },
    })?;
    Ok(choice(points, Some(newest), chosen, wish))
}

/// Points that passes brought, or that were gone back to: all but the original, also where it was gone back to.
fn brought(points: &[Point]) -> impl Iterator<Item = &Point> {
    points.iter().filter(|point| origin(points, point) > 0)
}

/// Number of the point whose state it is (0: the original's), followed back through points that were themselves gone back to.
pub(crate) fn origin(points: &[Point], point: &Point) -> u64 {
    let mut number = point.number;
    let mut back = point.restored;
    while let Some(earlier) = back.filter(|earlier| *earlier < number) {
        number = earlier;
        back = match points.iter().find(|point| point.number == number) {
            Some(found) => found.restored,
            // The original may have been given up.
            None if number == 0 => None,
            None => return dropped_origin(points, point, number),
        };
    }
    number
}

/// The same where a point on the way was dropped: the claim went along, and tells between which passes the state belongs.
fn dropped_origin(points: &[Point], point: &Point, dropped: u64) -> u64 {
    let passes = points.iter().filter(|other| other.restored.is_none() && other.number < dropped);
    let same = passes.clone().find(|other| other.claim == point.claim).map(|other| other.number);
    let is_before = |other: &&Point| other.claim.source_unix_ms <= point.claim.source_unix_ms;
    let before = passes.filter(|other| other.number > 0).filter(is_before).map(|other| other.number).max();
    same.or(before).unwrap_or(1)
}

/// What makes a point newer than another: the later pass brought it. Clocks may be set back, and a point that was gone back
/// to is no newer for that; of two of the same state, the later one is nearer.
fn recency(points: &[Point], point: &Point) -> (u64, u64) {
    (origin(points, point), point.number)
}

fn choice(points: &[Point], newest: Option<&Point>, chosen: &Point, wish: Wish) -> Choice {
    let is_newer = |point: &&Point| origin(points, point) > origin(points, chosen);
    let mut newer: Vec<_> = brought(points).filter(is_newer).collect();
    newer.sort_by_key(|point| std::cmp::Reverse(recency(points, point)));
    let passed = |point: &Point| Passed {
        number: point.number,
        source_unix_ms: point.claim.source_unix_ms,
        why: match wish {
            Wish::AppConsistent => format!("{}{}", point.claim.label, because(point)),
            Wish::Time(unix_ms) if point.claim.source_unix_ms > unix_ms => "after the time asked for".into(),
            Wish::Time(_) => "by its source's clock it is older".into(),
            _ => format!("point {} was asked for", chosen.number),
        },
    };
    let newest_unix_ms = newest.map_or(0, |newest| newest.claim.source_unix_ms);
    Choice {
        point: chosen.clone(),
        lost_ms: newest_unix_ms.saturating_sub(chosen.claim.source_unix_ms),
        passed: newer.into_iter().map(passed).collect(),
        is_original: origin(points, chosen) == 0,
    }
}

/// Why a point is worth no more, to be said behind its label.
fn because(point: &Point) -> String {
    let reason = &point.claim.reason;
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

fn numbers(points: &[Point]) -> String {
    let numbers: Vec<_> = points.iter().map(|point| point.number.to_string()).collect();
    if numbers.is_empty() { "none".into() } else { numbers.join(", ") }
}

impl fmt::Display for Choice {
    /// The point, what is lost by it, and why no newer one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (point, claim) = (&self.point, &self.point.claim);
        if self.is_original {
            write!(f, "point {}: what the disks were before the first pass", point.number)?;
        } else {
            let time = time_text(claim.source_unix_ms);
            write!(f, "point {}: {}{}, source of {time}", point.number, claim.label, because(point))?;
            write!(f, ", {} s lost against the newest", self.lost_ms.div_ceil(1000))?;
        }
        for passed in &self.passed {
            let time = time_text(passed.source_unix_ms);
            write!(f, "\n  not point {} of {time}: {}", passed.number, passed.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
