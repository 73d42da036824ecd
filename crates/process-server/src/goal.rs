//! How fast a job goes that has a deadline or a budget of bytes.
//!
//! **Invariant**: pure: times and counts are given. The pace is the lowest steady one that keeps the deadline, never above what the
//! machine's bandwidth allows; nothing is sent once the budget is spent or the deadline is over, and nothing is lost by that.

use failback_model::limits::{PACE_MIN_BYTES, PACE_RESERVE, PACE_TICK};
use failback_model::{Code, Finding};
use failback_service::clock::time_text;
use failback_service::control::PassFlags;
use failback_service::size::human;
use failback_transport::Rate;

/// What a job shall keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    finish_by_unix_ms: Option<u64>,
    max_egress_bytes: Option<u64>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Now.
    pub(crate) now_unix_ms: u64,
    /// Bytes that its disks sent, in all sessions.
    pub(crate) sent_bytes: u64,
    /// Bytes that are still to be sent, as far as it can be told.
    pub(crate) left_bytes: Option<u64>,
    /// What the machine's bandwidth allows.
    pub(crate) ceiling: Rate,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Go on at this pace; the finding says that the goal will not be kept.
    Go(Rate, Option<Finding>),
    /// Pause.
    Over(Finding),
}

impl Goal {
    /// A job's goal, where it has one.
    pub(crate) fn of(flags: &PassFlags) -> Option<Self> {
        let PassFlags { finish_by_unix_ms, max_egress_bytes, .. } = *flags;
        let is_any = finish_by_unix_ms.is_some() || max_egress_bytes.is_some();
        is_any.then_some(Self { finish_by_unix_ms, max_egress_bytes })
    }

    /// Whether anything may be sent.
    pub(crate) fn over(&self, sent_bytes: u64, left_bytes: Option<u64>, now_unix_ms: u64) -> Option<Finding> {
        let left = left_bytes.map_or_else(String::new, |left| format!("; about {} are left", human(left)));
        let spent = self.max_egress_bytes.filter(|most| sent_bytes >= *most).map(|most| {
            let needs = sent_bytes.saturating_add(left_bytes.unwrap_or_default());
            let evidence = format!("{} of {} were sent{left}", human(sent_bytes), human(most));
            let remedy = match left_bytes {
                Some(_) => format!("'failback reprotect' goes on from here: with --max-egress {} beyond what was sent, or without", human(needs - sent_bytes)),
                None => "'failback reprotect' goes on from here: with a new --max-egress, or without".into(),
            };
            Finding::error(Code::BudgetSpent, evidence).with_remedy(remedy)
        });
        let late = || {
            let end = self.finish_by_unix_ms.filter(|end| now_unix_ms >= *end)?;
            let evidence = format!("{} is over, and {} were sent{left}", time_text(end), human(sent_bytes));
            let remedy = "'failback reprotect' goes on from here: with a later --finish-by, or without";
            Some(Finding::error(Code::BudgetSpent, evidence).with_remedy(remedy))
        };
        spent.or_else(late)
    }

    /// The pace, or the end of it.
    pub(crate) fn decide(&self, standing: &Standing) -> Decision {
        let Standing { now_unix_ms, sent_bytes, left_bytes, ceiling } = *standing;
        if let Some(finding) = self.over(sent_bytes, left_bytes, now_unix_ms) {
            return Decision::Over(finding);
        }
        let reserve = PACE_RESERVE.as_millis() as u64;
        let pace = |end: u64, left| per_second(left, end.saturating_sub(now_unix_ms).saturating_sub(reserve));
        let steady =
            self.finish_by_unix_ms.zip(left_bytes).map(|(end, left)| pace(end, left).max(PACE_MIN_BYTES));
        // Close to its end a budget is not overrun by what one look to the next lets out.
        let rest = self
            .max_egress_bytes
            .map(|most| ((most - sent_bytes) / (2 * PACE_TICK.as_secs().max(1))).max(PACE_MIN_BYTES));
        let wanted = [steady, rest].into_iter().flatten().min().and_then(Rate::bytes_per_second);
        let rate = wanted.unwrap_or(Rate::Unlimited).min(ceiling);
        Decision::Go(rate, self.too_slow(standing).or_else(|| self.too_much(standing)))
    }

    /// The deadline needs more than the bandwidth.
    fn too_slow(&self, standing: &Standing) -> Option<Finding> {
        let Rate::BytesPerSecond(most) = standing.ceiling else { return None };
        let (end, left) = (self.finish_by_unix_ms?, standing.left_bytes?);
        let bare = per_second(left, end.saturating_sub(standing.now_unix_ms));
        (bare > most.get() && bare > PACE_MIN_BYTES).then(|| {
            let done = standing.now_unix_ms.saturating_add(left / most * 1000);
            let evidence = format!(
                "about {} are left: {}/s would be needed until {}, and the bandwidth is {}/s, which takes until {}",
                human(left), human(bare), time_text(end), human(most.get()), time_text(done)
            );
            Finding::warning(Code::BudgetSpent, evidence)
        })
    }

    /// The budget is less than what is left.
    fn too_much(&self, standing: &Standing) -> Option<Finding> {
        let (most, left) = (self.max_egress_bytes?, standing.left_bytes?);
        let needs = standing.sent_bytes.saturating_add(left);
        (needs > most).then(|| {
            let evidence =
                format!("about {} are needed in all, and {} may be sent", human(needs), human(most));
            Finding::warning(Code::BudgetSpent, evidence)
        })
    }
}

/// Bytes a second that move so many in so many milliseconds.
fn per_second(bytes: u64, milliseconds: u64) -> u64 {
    let rate = u128::from(bytes) * 1000 / u128::from(milliseconds.max(1000));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// What a disk has still to send: by what its pass sent for what is done so far, and before that by the prediction.
pub(crate) fn left_bytes(
    done_bytes: u64,
    total_bytes: u64,
    sent_bytes: u64,
    predicted_bytes: Option<u64>,
) -> Option<u64> {
    const KNOWN_PERCENT: u64 = 2;
    if total_bytes > 0 && done_bytes / KNOWN_PERCENT >= total_bytes / 100 {
        let left = total_bytes.saturating_sub(done_bytes);
        let sent = u128::from(sent_bytes) * u128::from(left) / u128::from(done_bytes.max(1));
        return Some(u64::try_from(sent).unwrap_or(u64::MAX));
    }
    predicted_bytes.map(|predicted| predicted.saturating_sub(sent_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const HOUR_MS: u64 = 3_600_000;

    fn goal(finish_by_unix_ms: Option<u64>, max_egress_bytes: Option<u64>) -> Goal {
        Goal { finish_by_unix_ms, max_egress_bytes }
    }

    fn rate(bytes: u64) -> Rate {
        Rate::bytes_per_second(bytes).expect("a rate")
    }

    fn at(now_unix_ms: u64, sent_bytes: u64, left_bytes: u64) -> Standing {
        Standing { now_unix_ms, sent_bytes, left_bytes: Some(left_bytes), ceiling: rate(100 * MIB) }
    }

    /// A link that carries what it is told to, second by second, until the end or a pause.
    fn run(goal: Goal, mut left: u64, ceiling: Rate) -> (u64, u64, u64, Option<Finding>) {
        let (mut now, mut sent, mut fastest) = (0, 0, 0);
        while left > 0 {
            let standing = Standing { now_unix_ms: now, sent_bytes: sent, left_bytes: Some(left), ceiling };
            match goal.decide(&standing) {
                Decision::Over(finding) => return (now, sent, fastest, Some(finding)),
                Decision::Go(Rate::Unlimited, _) => panic!("a goal has a pace"),
                Decision::Go(Rate::BytesPerSecond(rate), _) => {
                    let moved = rate.get().min(left);
                    (left, sent, fastest) = (left - moved, sent + moved, fastest.max(rate.get()));
                }
            }
            now += 1000;
        }
        (now, sent, fastest, None)
    }

    #[test]
    fn a_deadline_is_kept_at_hardly_more_than_the_steady_pace() {
        let (done, _, fastest, paused) = run(goal(Some(HOUR_MS), None), 36_000 * MIB, rate(100 * MIB));
        assert_eq!(paused, None);
        assert!((HOUR_MS - 70_000..HOUR_MS - 50_000).contains(&done), "{done}");
        assert!(fastest <= 11 * MIB + 1, "{fastest}");
    }

    #[test]
    fn the_bandwidth_is_never_exceeded_and_what_is_needed_is_said() {
        let goal = goal(Some(HOUR_MS), None);
        let Decision::Go(pace, Some(said)) = goal.decide(&at(0, 0, 720_000 * MIB)) else { panic!("it goes") };
        assert_eq!((pace, said.code), (rate(100 * MIB), Code::BudgetSpent));
        assert!(said.evidence.contains("200 MiB/s would be needed"), "{}", said.evidence);
        assert!(said.evidence.contains("which takes until 1970-01-01T02:00:00Z"), "{}", said.evidence);
        let (ended, sent, fastest, paused) = run(goal, 720_000 * MIB, rate(100 * MIB));
        assert_eq!((ended, fastest), (HOUR_MS, 100 * MIB));
        let paused = paused.expect("the deadline is over");
        assert!(paused.evidence.contains(&human(720_000 * MIB - sent)), "{}", paused.evidence);
    }

    #[test]
    fn a_budget_is_not_overrun_by_more_than_one_look_at_the_slowest_pace() {
        let (_, sent, _, paused) = run(goal(None, Some(1000 * MIB)), 5000 * MIB, Rate::Unlimited);
        assert!((1000 * MIB..1000 * MIB + PACE_MIN_BYTES).contains(&sent), "{sent}");
        assert!(paused.expect("it is spent").evidence.contains("about 3.9 GiB are left"));
        let Decision::Go(_, said) = goal(None, Some(1000 * MIB)).decide(&at(0, 10, 5000 * MIB)) else {
            panic!("it goes");
        };
        assert!(said.is_some_and(|said| said.evidence.contains("4.9 GiB are needed in all")));
    }

    #[test]
    fn without_a_prediction_it_goes_as_the_bandwidth_allows() {
        let unknown = Standing { left_bytes: None, ..at(0, 0, 0) };
        assert_eq!(goal(Some(HOUR_MS), None).decide(&unknown), Decision::Go(rate(100 * MIB), None));
    }

    #[test]
    fn what_is_left_follows_the_pass_once_it_tells() {
        assert_eq!(left_bytes(0, 1000, 0, None), None);
        assert_eq!(left_bytes(1, 1000, 30, Some(500)), Some(470));
        assert_eq!(left_bytes(500, 1000, 30, Some(500)), Some(30));
        assert_eq!(left_bytes(1000, 1000, 30, None), Some(0));
    }
}
