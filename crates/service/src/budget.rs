//! One daemon's memory for contents under way, shared by its disks.
//!
//! Every disk that runs holds at least one unit, so that none waits for another's end while there is a unit left; what
//! is not needed for that is shared evenly between the disks that are expected to run. A grant does not change while
//! its pass runs: a pass's window is fixed when it starts.
//!
//! **Invariant**: the grants together never exceed the budget.

use failback_model::limits::{BUDGET_UNIT_BYTES, WINDOW_DEFAULT_BYTES};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit of the semaphore stands for.
const GRAIN_BYTES: u64 = 1 << 20;
const UNIT_GRAINS: usize = (BUDGET_UNIT_BYTES / GRAIN_BYTES) as usize;
const MOST_GRAINS: usize = (WINDOW_DEFAULT_BYTES / GRAIN_BYTES) as usize;

/// The budget; clones share it.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    grains: Arc<Semaphore>,
    total_grains: usize,
    disks: Mutex<Disks>,
}

#[derive(Default)]
struct Disks {
    running: usize,
    expected: usize,
}

/// A disk's share, until it is dropped.
pub struct Grant {
    permit: OwnedSemaphorePermit,
    budget: MemoryBudget,
}

/// How the budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BudgetStatus {
    /// The whole budget.
    pub total_bytes: u64,
    /// What running disks hold.
    pub granted_bytes: u64,
    /// Disks that hold a share.
    pub running_disks: u64,
}

impl MemoryBudget {
    /// A budget of this size; at least one unit, whole megabytes.
    pub fn new(total_bytes: u64) -> Self {
        let total_grains = ((total_bytes / GRAIN_BYTES) as usize).clamp(UNIT_GRAINS, Semaphore::MAX_PERMITS);
        let grains = Arc::new(Semaphore::new(total_grains));
        Self(Arc::new(Shared { grains, total_grains, disks: Mutex::default() }))
    }

    /// Says how many disks may come to run at once, those that run included: a unit is kept free for each.
    pub fn expect(&self, disks: usize) {
        self.disks().expected = disks;
    }

    /// A share, once there is a unit. Waiting disks get theirs in the order in which they asked.
    pub async fn acquire(&self) -> Grant {
        let grains = Arc::clone(&self.0.grains);
        let mut permit = grains.acquire_many_owned(UNIT_GRAINS as u32).await.expect("it is never closed");
        let mut disks = self.disks();
        disks.running += 1;
        let others = disks.expected.saturating_sub(disks.running);
        let spare = self.0.grains.available_permits().saturating_sub(others * UNIT_GRAINS);
        let more = (spare / (others + 1)).min(MOST_GRAINS - UNIT_GRAINS);
        // Whoever waits comes first: then there is no more than the unit.
        if let Ok(extra) = Arc::clone(&self.0.grains).try_acquire_many_owned(more as u32) {
            permit.merge(extra);
        }
        drop(disks);
        Grant { permit, budget: self.clone() }
    }

    /// How it is used now.
    pub fn status(&self) -> BudgetStatus {
        let granted = self.0.total_grains - self.0.grains.available_permits();
        BudgetStatus {
            total_bytes: self.0.total_grains as u64 * GRAIN_BYTES,
            granted_bytes: granted as u64 * GRAIN_BYTES,
            running_disks: self.disks().running as u64,
        }
    }

    fn disks(&self) -> std::sync::MutexGuard<'_, Disks> {
        self.0.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grant {
    /// The share: the window of the disk's pass.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * GRAIN_BYTES
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.disks().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const MIB: u64 = 1 << 20;

    /// What is there without waiting.
    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn expected_disks_get_equal_shares() {
        let budget = MemoryBudget::new(192 * MIB);
        budget.expect(4);
        let grants: Vec<_> = (0..4).map(|_| now(budget.acquire()).expect("there is room").bytes()).collect();
        // Each was dropped before the next came; held together they are the same.
        assert_eq!(grants, [48 * MIB; 4]);
        let held: Vec<_> = (0..4).map(|_| now(budget.acquire()).expect("there is room")).collect();
        assert_eq!(held.iter().map(Grant::bytes).collect::<Vec<_>>(), [48 * MIB; 4]);
        assert_eq!(
            budget.status(),
            BudgetStatus { total_bytes: 192 * MIB, granted_bytes: 192 * MIB, running_disks: 4 }
        );
    }

    #[test]
    fn one_disk_gets_no_more_than_a_window_and_a_tiny_budget_is_one_unit() {
        let alone = now(MemoryBudget::new(1 << 40).acquire()).expect("there is room");
        assert_eq!(alone.bytes(), WINDOW_DEFAULT_BYTES);
        let tiny = MemoryBudget::new(0);
        let held = now(tiny.acquire()).expect("there is room");
        assert_eq!(held.bytes(), BUDGET_UNIT_BYTES);
        assert!(now(tiny.acquire()).is_none());
    }

    #[test]
    fn more_disks_than_units_wait_their_turn_in_order() {
        let budget = MemoryBudget::new(2 * BUDGET_UNIT_BYTES);
        budget.expect(4);
        let first = now(budget.acquire()).expect("a unit");
        let second = now(budget.acquire()).expect("a unit");
        assert_eq!((first.bytes(), second.bytes()), (BUDGET_UNIT_BYTES, BUDGET_UNIT_BYTES));
        let (mut third, mut fourth) = (Box::pin(budget.acquire()), Box::pin(budget.acquire()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert!(fourth.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(fourth.as_mut().poll(&mut context).is_pending(), "it came later");
        let Poll::Ready(third) = third.as_mut().poll(&mut context) else { panic!("its turn") };
        assert_eq!(third.bytes(), BUDGET_UNIT_BYTES);
        drop((second, third));
        assert!(fourth.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn whatever_comes_and_goes_the_sum_stays_within_the_budget() {
        let budget = MemoryBudget::new(100 * MIB);
        let mut held = Vec::new();
        let mut state = 7_u64;
        for step in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = (state >> 33) as usize;
            budget.expect(draw % 16);
            if draw.is_multiple_of(3) && !held.is_empty() {
                let at = draw % held.len();
                drop(held.swap_remove(at));
            } else if let Some(grant) = now(budget.acquire()) {
                held.push(grant);
            }
            let sum: u64 = held.iter().map(Grant::bytes).sum();
            let status = budget.status();
            assert!(sum <= 100 * MIB && sum == status.granted_bytes, "step {step}: {sum}");
            assert_eq!(status.running_disks, held.len() as u64);
            assert!(held.iter().all(|grant| grant.bytes() >= BUDGET_UNIT_BYTES));
        }
    }
}
