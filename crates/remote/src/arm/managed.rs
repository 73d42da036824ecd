//! The states of one machine's disks, from the request to make them to their removal.
//!
//! **Invariant**: at any instant every snapshot, restore point and access that may exist in the cloud by our doing is in the
//! notes; what is in the notes as taken stays until [`ManagedSnapshots::retire`] says that nobody needs it.

use super::accounting::{Accounting, may_differ};
use super::call::CallError;
use super::cloud::Cloud;
use super::notes::{Member, Notes, Set, Stage};
use super::resource::AzureDisk;
use super::rest::Arm;
use crate::http::SecretUrl;
use failback_model::limits::{AZURE_ACCESS_LEFT_MIN, AZURE_ACCESS_TIME};
use failback_model::{Code, DiskId, Finding, MachineId, PointLabel};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One state of one disk in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The state of this path, as it was kept.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// Its path; no secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// States of all disks of a machine, of one cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The cycle.
    pub cycle: u64,
    /// In the machine's order.
    pub states: Vec<State>,
    /// What they are worth together.
    pub label: PointLabel,
    /// Why no more; may be empty.
    pub reason: String,
    /// When the disks were like that, milliseconds since 1970; of several instants the first.
    pub taken_unix_ms: u64,
}

/// A disk's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which disk.
    pub disk: DiskId,
    /// Its state.
    pub id: SnapshotId,
    /// The disk's length then, bytes.
    pub length_bytes: u64,
}

/// How a state is read.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where.
    pub url: SecretUrl,
    /// Where the base of its difference is, for the header `x-ms-previous-snapshot-url`.
    pub base: Option<SecretUrl>,
    /// When it should be asked for anew, milliseconds since 1970.
    pub renew_unix_ms: u64,
    /// Why there is no difference to the base that was asked for.
    pub feed: Option<Finding>,
}

/// Snapshots of a machine's managed disks.
pub struct ManagedSnapshots {
    pub(super) arm: Arc<dyn Arm>,
    pub(super) machine: MachineId,
    pub(super) disks: Vec<(DiskId, AzureDisk)>,
    pub(super) path: PathBuf,
    notes: Mutex<Notes>,
}

impl ManagedSnapshots {
    /// Those of a machine, whose notes lie in the file at `path`.
    pub fn open(
        arm: Arc<dyn Arm>,
        machine: MachineId,
        disks: Vec<(DiskId, AzureDisk)>,
        path: &Path,
    ) -> Result<Self, Finding> {
        let notes = Mutex::new(Notes::read(path)?);
        Ok(Self { arm, machine, disks, path: path.into(), notes })
    }

    /// Takes the states of a cycle; those of a cycle that was taken before are the same.
    pub fn take(&self, cycle: u64) -> Result<Taken, Finding> {
        let mut notes = self.notes();
        if let Some(set) = notes.sets.iter().find(|set| set.cycle == cycle && set.stage == Stage::Taken) {
            return Ok(taken(set));
        }
        self.forget_unfinished(&mut notes)?;
        let made = self.make(&mut notes, cycle);
        if made.is_err() {
            // What cannot be removed now stays in the notes; the error that is told is the first one.
            let _later = self.forget_unfinished(&mut notes);
        }
        made
    }

    /// Whether the states of a cycle stand.
    pub fn has(&self, cycle: u64) -> bool {
        self.notes().sets.iter().any(|set| set.cycle == cycle && set.stage == Stage::Taken)
    }

    /// Opens access to a state, and to the base of its difference. Asked again before [`Access::renew_unix_ms`] it gives URLs
    /// that last longer.
    pub fn access(&self, id: &SnapshotId, base: Option<&SnapshotId>) -> Result<Access, Finding> {
        let mut notes = self.notes();
        let at = find(&notes, id)?;
        let difference = match base {
            Some(base) => self.difference(&notes, at, base),
            None => Ok(None),
        };
        let url = self.grant(&mut notes, at)?;
        let (base, feed) = match difference {
            Ok(Some(base)) => (Some(self.grant(&mut notes, base)?), None),
            Ok(None) => (None, None),
            Err(why) => (None, Some(why)),
        };
        let now = self.arm.now_unix_ms();
        let lasts = (AZURE_ACCESS_TIME - AZURE_ACCESS_LEFT_MIN).as_millis() as u64;
        let expires = [Some(&url), base.as_ref()].into_iter().flatten().filter_map(expiry).min();
        let renew = expires.map(|end| end.saturating_sub(AZURE_ACCESS_LEFT_MIN.as_millis() as u64));
        Ok(Access { url, base, renew_unix_ms: renew.unwrap_or(now + lasts), feed })
    }

    /// Takes access to a state back.
    pub fn release_access(&self, id: &SnapshotId) -> Result<(), Finding> {
        let mut notes = self.notes();
        let (set, member) = find(&notes, id)?;
        if notes.sets[set].members[member].access_until_unix_ms > 0 {
            Cloud(&*self.arm).end_access(id.as_str()).map_err(CallError::finding)?;
            notes.sets[set].members[member].access_until_unix_ms = 0;
            notes.keep(&self.path)?;
        }
        Ok(())
    }

    /// Removes all states but those of the cycles that hold one of `keep`: called when a point is sealed, with the states
    /// that it was made of, which are the bases of the next differences.
    pub fn retire(&self, keep: &[SnapshotId]) -> Result<(), Finding> {
        let mut notes = self.notes();
        let is_kept = |set: &Set| set.members.iter().any(|member| keep.iter().any(|id| id.0 == member.path));
        let goes = |set: &Set| set.stage == Stage::Taken && !is_kept(set);
        notes.sets.iter_mut().filter(|set| goes(set)).for_each(|set| set.stage = Stage::Retired);
        notes.keep(&self.path)?;
        self.forget_unfinished(&mut notes)
    }

    /// After a start: removes what no cycle finished and what was to go, ends all access, and tells what stands, oldest first.
    pub fn recover(&self) -> Result<Vec<Taken>, Finding> {
        let mut notes = self.notes();
        self.forget_unfinished(&mut notes)?;
        for set in 0..notes.sets.len() {
            self.end_accesses(&mut notes, set)?;
        }
        Ok(notes.sets.iter().filter(|set| set.stage == Stage::Taken).map(taken).collect())
    }

    /// Whether a state can be compared with a base: where the base is, or why not.
    fn difference(
        &self,
        notes: &Notes,
        at: (usize, usize),
        base: &SnapshotId,
    ) -> Result<Option<(usize, usize)>, Finding> {
        let unusable = |why: &str| {
            let name = super::resource::last(base.as_str());
            Finding::warning(Code::FeedUnusable, format!("no difference to {name}: {why}"))
        };
        let from = find(notes, base).map_err(|_| unusable("it is not there any more"))?;
        let (set, old_set) = (&notes.sets[at.0], &notes.sets[from.0]);
        let (new, old) = (&set.members[at.1], &old_set.members[from.1]);
        if set.restore_point.is_some() != old_set.restore_point.is_some() {
            return Err(unusable("one is a snapshot and the other of a restore point"));
        }
        if new.family.is_empty() || new.family != old.family {
            return Err(unusable("they are not of one family: the disk was replaced"));
        }
        match may_differ(old.length_bytes, new.length_bytes) {
            true => Ok(Some(from)),
            false => Err(unusable("the disk grew across 4 TiB meanwhile, where Azure gives none")),
        }
    }

    /// Opens access to one state, noted before it is asked for.
    fn grant(&self, notes: &mut Notes, (set, member): (usize, usize)) -> Result<SecretUrl, Finding> {
        let cloud = Cloud(&*self.arm);
        let disk = notes.sets[set].members[member].disk.clone();
        let path = notes.sets[set].members[member].path.clone();
        let of_disk = notes.sets.iter().flat_map(|set| &set.members).filter(|other| other.disk == disk);
        let open = of_disk.filter(|other| other.access_until_unix_ms > 0 && other.path != path).count();
        if !Accounting::has_access(open) {
            let evidence =
                format!("{open} snapshots of disk {disk} are read, and Azure allows no more at once");
            return Err(Finding::error(Code::SnapshotLimit, evidence));
        }
        notes.sets[set].members[member].access_until_unix_ms =
            self.arm.now_unix_ms() + AZURE_ACCESS_TIME.as_millis() as u64;
        notes.keep(&self.path)?;
        let url = cloud.begin_access(&path).map_err(CallError::finding)?;
        let needed = self.arm.now_unix_ms() + AZURE_ACCESS_LEFT_MIN.as_millis() as u64;
        if expiry(&url).is_none_or(|end| end > needed) {
            return Ok(url);
        }
        // Azure gives the same URL again while one lasts.
        cloud.end_access(&path).map_err(CallError::finding)?;
        cloud.begin_access(&path).map_err(CallError::finding)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn taken(set: &Set) -> Taken {
    // Only ids were noted; one that somebody wrote into the file is no disk of ours.
    let state = |member: &Member| {
        let disk = DiskId::new(member.disk.as_str()).ok()?;
        Some(State { disk, id: SnapshotId(member.path.clone()), length_bytes: member.length_bytes })
    };
    Taken {
        cycle: set.cycle,
        states: set.members.iter().filter_map(state).collect(),
        label: set.label(),
        reason: set.reason.clone(),
        taken_unix_ms: set.taken_unix_ms,
    }
}

fn find(notes: &Notes, id: &SnapshotId) -> Result<(usize, usize), Finding> {
    let stands = notes.sets.iter().enumerate().filter(|(_, set)| set.stage == Stage::Taken);
    let mut members = stands.flat_map(|(at, set)| set.members.iter().enumerate().map(move |m| (at, m)));
    let found = members.find(|(_, (_, member))| member.path == id.0).map(|(set, (member, _))| (set, member));
    found.ok_or_else(|| Finding::error(Code::CloudFailed, format!("{id} is no state that stands")))
}

/// When a URL expires, as its `se` says.
fn expiry(url: &SecretUrl) -> Option<u64> {
    let end = url.expose().query_pairs().find(|(key, _)| key == "se")?.1;
    super::cloud::time_in(&end.as_ref().into())
}
