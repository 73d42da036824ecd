//! One point for each machine of a group: each its latest, or the latest at which all were quiesced together.
//!
//! **Invariant**: points that are called common have source times no further apart than [`GROUP_POINT_SPREAD_MAX`], or are
//! the last state of a machine that was off. A machine without a point blocks the group; no machine is left out.

use super::{Choice, ChoiceError, Wish, because, brought, choice, choose, origin, recency};
use crate::look::time_text;
use crate::point::Point;
use failback_model::limits::GROUP_POINT_SPREAD_MAX;
use failback_model::{Code, Finding, MachineId, PointLabel};
use std::fmt;

/// A machine of a group.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Which.
    pub machine: &'a MachineId,
    /// Its points, the oldest first.
    pub points: &'a [Point],
}

/// A machine's point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Which machine.
    pub machine: MachineId,
    /// Its point.
    pub choice: Choice,
}

/// A machine that has no point that would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Which.
    pub machine: MachineId,
    /// What it has instead.
    pub why: String,
}

/// A moment at which some machines were quiesced and others not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// When, milliseconds since 1970.
    pub source_unix_ms: u64,
    /// Who was not.
    pub by: Vec<Blocker>,
}

/// The points of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupChoice {
    /// One for each machine, in the order of the group.
    pub picked: Vec<Picked>,
    /// How far the source times are apart.
    pub spread_ms: u64,
    /// Newer moments that were no common point, the newest first; empty unless a common one was asked for.
    pub blocked: Vec<Blocked>,
}

/// A group has no points that would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefusal {
    /// Nobody is in it.
    #[error("the group has no machine")]
    Empty,
    /// A number names a point of one machine.
    #[error("a number names a point of one machine, not of a group")]
    Number,
    /// Machines that have no point that would do.
    #[error("without a recovery point: {}", listed(.0))]
    Without(Vec<Blocker>),
    /// Never were all quiesced together.
    #[error("no app-consistent point is common to all machines{}", .0.iter().map(said).collect::<String>())]
    NoneCommon(Vec<Blocked>),
}

impl GroupRefusal {
    /// As a finding with what to do.
    pub fn to_finding(&self) -> Finding {
        let finding = Finding::error(Code::PointUnknown, self.to_string());
        match self {
            Self::Without(_) => finding.with_remedy(
                "wait until every disk of those machines is sealed, or take them out of the group",
            ),
            Self::NoneCommon(_) => finding.with_remedy(
                "quiesce all machines in one snapshot and bring them home again, or take 'latest' for each",
            ),
            Self::Empty | Self::Number => {
                finding.with_remedy("name machines, and latest, app-consistent or a time")
            }
        }
    }
}

/// Chooses a point for each machine of a group.
pub fn choose_for_group(members: &[Member<'_>], wish: Wish) -> Result<GroupChoice, GroupRefusal> {
    if members.is_empty() {
        return Err(GroupRefusal::Empty);
    }
    let without = |member: &Member<'_>| brought(member.points).next().is_none();
    let without: Vec<_> = members.iter().filter(|member| without(member)).collect();
    if !without.is_empty() {
        let blocker = |member: &&Member<'_>| blocker(member, &ChoiceError::NoPoint);
        return Err(GroupRefusal::Without(without.iter().map(blocker).collect()));
    }
    match wish {
        Wish::Number(_) => Err(GroupRefusal::Number),
        Wish::Latest | Wish::Time(_) => each_its_own(members, wish),
        Wish::AppConsistent => common(members),
    }
}

fn blocker(member: &Member<'_>, why: &dyn fmt::Display) -> Blocker {
    Blocker { machine: member.machine.clone(), why: why.to_string() }
}

fn each_its_own(members: &[Member<'_>], wish: Wish) -> Result<GroupChoice, GroupRefusal> {
    let (mut picked, mut without) = (Vec::new(), Vec::new());
    for member in members {
        match choose(member.points, wish) {
            Ok(choice) => picked.push(Picked { machine: member.machine.clone(), choice }),
            Err(error) => without.push(blocker(member, &error)),
        }
    }
    match without.is_empty() {
        true => Ok(GroupChoice { spread_ms: spread_ms(&picked), picked, blocked: Vec::new() }),
        false => Err(GroupRefusal::Without(without)),
    }
}

/// Goes back through the moments at which any machine was quiesced, until all were.
fn common(members: &[Member<'_>]) -> Result<GroupChoice, GroupRefusal> {
    let is_quiesced = |point: &&Point| point.claim.label.is_app_consistent();
    let quiesced = members.iter().flat_map(|member| brought(member.points).filter(is_quiesced));
    let mut moments: Vec<u64> = quiesced.map(|point| point.claim.source_unix_ms).collect();
    moments.sort_unstable_by_key(|moment| std::cmp::Reverse(*moment));
    moments.dedup();
    let mut blocked = Vec::new();
    for at_unix_ms in moments {
        let found: Vec<_> = members.iter().map(|member| (member, quiesced_at(member, at_unix_ms))).collect();
        let by: Vec<_> = found
            .iter()
            .filter(|(_, point)| point.is_none())
            .map(|(member, _)| blocker(member, &instead(member, at_unix_ms)))
            .collect();
        if !by.is_empty() {
            blocked.push(Blocked { source_unix_ms: at_unix_ms, by });
            continue;
        }
        let picked: Vec<_> =
            found.into_iter().filter_map(|(member, point)| Some(picked(member, point?))).collect();
        return Ok(GroupChoice { spread_ms: spread_ms(&picked), picked, blocked });
    }
    Err(GroupRefusal::NoneCommon(blocked))
}

/// A machine's newest point that was quiesced at a moment, or that was off by then and has stayed so.
fn quiesced_at<'a>(member: &Member<'a>, at_unix_ms: u64) -> Option<&'a Point> {
    let newest = brought(member.points).map(|point| origin(member.points, point)).max();
    let fits = |point: &&Point| {
        let is_off = point.claim.label == PointLabel::Final && Some(origin(member.points, point)) == newest;
        let source_unix_ms = point.claim.source_unix_ms;
        point.claim.label.is_app_consistent()
            && source_unix_ms <= at_unix_ms
            && (is_off || is_near(source_unix_ms, at_unix_ms))
    };
    brought(member.points)
        .filter(fits)
        .max_by_key(|point| (point.claim.source_unix_ms, recency(member.points, point)))
}

fn is_near(one_unix_ms: u64, other_unix_ms: u64) -> bool {
    u128::from(one_unix_ms.abs_diff(other_unix_ms)) <= GROUP_POINT_SPREAD_MAX.as_millis()
}

/// What a machine has in place of a point that was quiesced at a moment.
fn instead(member: &Member<'_>, at_unix_ms: u64) -> String {
    let near = |point: &&Point| is_near(point.claim.source_unix_ms, at_unix_ms);
    match brought(member.points).filter(near).max_by_key(|point| recency(member.points, point)) {
        Some(point) => format!("its point {} is {}{}", point.number, point.claim.label, because(point)),
        None => "it has no point of that time".into(),
    }
}

fn picked(member: &Member<'_>, point: &Point) -> Picked {
    let newest = brought(member.points).max_by_key(|point| recency(member.points, point));
    let mut choice = choice(member.points, newest, point, Wish::AppConsistent);
    for passed in &mut choice.passed {
        let is_quiesced = member
            .points
            .iter()
            .any(|point| point.number == passed.number && point.claim.label.is_app_consistent());
        if is_quiesced {
            passed.why = "not common to all machines".into();
        }
    }
    Picked { machine: member.machine.clone(), choice }
}

fn spread_ms(picked: &[Picked]) -> u64 {
    let times = || picked.iter().map(|picked| picked.choice.point.claim.source_unix_ms);
    times().max().unwrap_or(0) - times().min().unwrap_or(0)
}

fn listed(blockers: &[Blocker]) -> String {
    let each: Vec<_> =
        blockers.iter().map(|blocker| format!("{} ({})", blocker.machine, blocker.why)).collect();
    each.join(", ")
}

fn said(blocked: &Blocked) -> String {
    format!("\n  not {}: {}", time_text(blocked.source_unix_ms), listed(&blocked.by))
}

impl fmt::Display for GroupChoice {
    /// Each machine's point and what it loses, how far they are apart, and who blocked a newer one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source times {} s apart", self.spread_ms.div_ceil(1000))?;
        for Picked { machine, choice } in &self.picked {
            let (number, claim) = (choice.point.number, &choice.point.claim);
            let (time, lost) = (time_text(claim.source_unix_ms), choice.lost_ms.div_ceil(1000));
            write!(f, "\n{machine}: point {number}, {}, source of {time}, {lost} s lost", claim.label)?;
        }
        self.blocked.iter().try_for_each(|blocked| f.write_str(&said(blocked)))
    }
}
