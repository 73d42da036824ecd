//! Removing what is not needed, in an order in which a kill forgets nothing.

use super::call::CallError;
use super::cloud::Cloud;
use super::managed::ManagedSnapshots;
use super::notes::{Notes, Stage};
use failback_model::Finding;
use failback_model::limits::AZURE_LATE_MAX;

impl ManagedSnapshots {
    /// Removes what was asked for and not finished, and what was retired; what cannot be proven gone stays noted.
    pub(super) fn forget_unfinished(&self, notes: &mut Notes) -> Result<(), Finding> {
        let mut at = 0;
        while at < notes.sets.len() {
            if notes.sets[at].stage == Stage::Taken {
                at += 1;
                continue;
            }
            if self.remove(notes, at)? {
                notes.sets.remove(at);
            } else {
                notes.sets[at].stage = Stage::Retired;
                at += 1;
            }
            notes.keep(&self.path)?;
        }
        Ok(())
    }

    /// Takes access to all of a set back.
    pub(super) fn end_accesses(&self, notes: &mut Notes, set: usize) -> Result<(), Finding> {
        let cloud = Cloud(&*self.arm);
        let is_open =
            |notes: &Notes| notes.sets[set].members.iter().position(|member| member.access_until_unix_ms > 0);
        while let Some(member) = is_open(notes) {
            cloud.end_access(&notes.sets[set].members[member].path).map_err(CallError::finding)?;
            notes.sets[set].members[member].access_until_unix_ms = 0;
            notes.keep(&self.path)?;
        }
        Ok(())
    }

    /// Removes a set from the cloud; whether its note may go. What was asked for and is not there may still come: the request
    /// of a daemon that was killed.
    fn remove(&self, notes: &mut Notes, at: usize) -> Result<bool, Finding> {
        let cloud = Cloud(&*self.arm);
        self.end_accesses(notes, at)?;
        let set = &notes.sets[at];
        let mut was_there = true;
        match &set.restore_point {
            Some(path) => was_there = cloud.remove(path, true).map_err(CallError::finding)?,
            None => {
                for member in &set.members {
                    was_there &= cloud.remove(&member.path, false).map_err(CallError::finding)?;
                }
            }
        }
        let late = set.asked_unix_ms.saturating_add(AZURE_LATE_MAX.as_millis() as u64);
        Ok(was_there || late < self.arm.now_unix_ms())
    }
}
