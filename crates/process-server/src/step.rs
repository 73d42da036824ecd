//! What comes next in a machine's cycles: a pure decision.
//!
//! **Invariant**: nothing begins while disks of the cycle under way may still be sealed; behind a final cycle nothing begins.

use failback_service::registry::CycleWish;

/// What the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// The machine is to replicate.
    pub(crate) is_wanted: bool,
    /// All its disks are sealed in the cycle.
    pub(crate) is_sealed: bool,
    /// That was seen to.
    pub(crate) is_closed: bool,
    /// The cycle is the final one.
    pub(crate) is_final: bool,
    /// Its source was stopped by our hook for it.
    pub(crate) was_stopped_for_it: bool,
    /// It was decided that the final cycle is not made.
    pub(crate) is_failing: bool,
    /// A cycle of the job was sealed before.
    pub(crate) has_sealed: bool,
    /// Every disk that is not sealed waits, because its source cannot be read.
    pub(crate) is_stuck: bool,
    /// A disk needs an operator.
    pub(crate) has_failed: bool,
    /// What was asked for.
    pub(crate) wish: Option<CycleWish>,
    /// When the cycle began.
    pub(crate) began_unix_ms: u64,
    /// From there to the next; none: on request.
    pub(crate) every_ms: Option<u64>,
    /// What a final cycle may take.
    pub(crate) final_timeout_ms: u64,
    /// When this run of the daemon began to follow the cycles: whatever is overdue then has one more try.
    pub(crate) followed_unix_ms: u64,
    /// Now.
    pub(crate) now_unix_ms: u64,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// All disks are sealed: see to what follows.
    Close,
    /// Begin the next cycle.
    Begin {
        /// The source is stopped for it first.
        is_final: bool,
    },
    /// The final cycle was not made.
    FailFinal,
    /// Look again then, or when something happens.
    Wait(Option<u64>),
}

/// What a daemon that starts anew gives a final cycle that is overdue: it may be sealed, and only the answer be lost.
const FINAL_LAST_TRY_MS: u64 = 60_000;

/// Decides.
pub(crate) fn next_step(view: &View) -> Step {
    if !view.is_wanted {
        return Step::Wait(None);
    }
    let due = view.every_ms.map(|every| view.began_unix_ms.saturating_add(every));
    let is_due = due.is_some_and(|due| view.now_unix_ms >= due);
    let is_final = view.wish == Some(CycleWish::Final);
    if view.is_failing {
        return Step::FailFinal;
    }
    match (view.is_sealed, view.is_closed) {
        (true, false) => Step::Close,
        (_, true) if view.is_final => Step::Wait(None),
        (_, true) if view.wish.is_some() || is_due => Step::Begin { is_final },
        (_, true) => Step::Wait(due),
        (false, false) if view.is_final && view.was_stopped_for_it => {
            let end = view.began_unix_ms.saturating_add(view.final_timeout_ms);
            let end = end.max(view.followed_unix_ms.saturating_add(FINAL_LAST_TRY_MS));
            if view.has_failed || view.now_unix_ms >= end { Step::FailFinal } else { Step::Wait(Some(end)) }
        }
        // A source that is off has no later state.
        (false, false) if view.is_final => Step::Wait(None),
        (false, false) if view.is_stuck && (view.wish.is_some() || is_due && view.has_sealed) => {
            Step::Begin { is_final }
        }
        (false, false) => Step::Wait(due.filter(|_| view.is_stuck && view.has_sealed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            is_wanted: true,
            is_sealed: false,
            is_closed: false,
            is_final: false,
            was_stopped_for_it: false,
            is_failing: false,
            has_sealed: true,
            is_stuck: false,
            has_failed: false,
            wish: None,
            began_unix_ms: 1_000,
            every_ms: Some(500),
            final_timeout_ms: 100_000,
            followed_unix_ms: 900,
            now_unix_ms: 1_100,
        }
    }

    #[test]
    fn cycles_follow_each_other_by_the_clock_and_on_request() {
        let sealed = View { is_sealed: true, ..view() };
        assert_eq!(next_step(&sealed), Step::Close);
        let closed = View { is_closed: true, ..sealed };
        assert_eq!(next_step(&closed), Step::Wait(Some(1_500)));
        let due = View { now_unix_ms: 1_500, ..closed.clone() };
        assert_eq!(next_step(&due), Step::Begin { is_final: false });
        assert_eq!(next_step(&View { every_ms: None, ..due.clone() }), Step::Wait(None));
        for (wish, is_final) in [(CycleWish::Next, false), (CycleWish::Final, true)] {
            let asked = View { wish: Some(wish), ..closed.clone() };
            assert_eq!(next_step(&asked), Step::Begin { is_final });
        }
        assert_eq!(next_step(&View { is_wanted: false, ..due }), Step::Wait(None));
    }

    #[test]
    fn a_cycle_under_way_is_given_up_only_where_its_source_cannot_be_read() {
        let late = View { now_unix_ms: 9_000, wish: Some(CycleWish::Next), ..view() };
        assert_eq!(next_step(&late), Step::Wait(None), "it may still be sealed");
        let stuck = View { is_stuck: true, ..late };
        assert_eq!(next_step(&stuck), Step::Begin { is_final: false });
        let first = View { has_sealed: false, wish: None, ..stuck.clone() };
        assert_eq!(next_step(&first), Step::Wait(None), "a first pass may take days");
        assert_eq!(next_step(&View { now_unix_ms: 1_100, wish: None, ..stuck }), Step::Wait(Some(1_500)));
    }

    #[test]
    fn nothing_follows_a_final_cycle_and_one_that_fails_frees_the_source() {
        let done = View { is_final: true, is_sealed: true, is_closed: true, now_unix_ms: 9_000, ..view() };
        assert_eq!(next_step(&View { wish: Some(CycleWish::Next), ..done.clone() }), Step::Wait(None));
        let running = View { is_sealed: false, is_closed: false, was_stopped_for_it: true, ..done };
        assert_eq!(next_step(&running), Step::Wait(Some(101_000)));
        assert_eq!(next_step(&View { has_failed: true, ..running.clone() }), Step::FailFinal);
        assert_eq!(next_step(&View { now_unix_ms: 101_000, ..running.clone() }), Step::FailFinal);
        assert_eq!(next_step(&View { is_failing: true, ..running.clone() }), Step::FailFinal);
        let anew = View { followed_unix_ms: 200_000, now_unix_ms: 200_001, ..running.clone() };
        assert_eq!(next_step(&anew), Step::Wait(Some(260_000)), "it may be sealed, and the answer lost");
        let ordinary = View { was_stopped_for_it: false, has_failed: true, ..running };
        assert_eq!(next_step(&ordinary), Step::Wait(None), "the operator said that it is off");
    }
}
