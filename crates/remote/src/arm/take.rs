//! Taking the states of one cycle.

use super::accounting::Accounting;
use super::call::{CallError, pause};
use super::cloud::{Cloud, path_in, time_in};
use super::managed::{ManagedSnapshots, Taken, taken};
use super::notes::{Member, Notes, Set, Stage};
use super::resource::{is_same, last};
use super::write_order::why_per_disk;
use failback_model::limits::{AZURE_COPY_MAX, AZURE_COPY_POLL};
use failback_model::{Code, Finding, PointClaim, PointLabel};
use serde_json::{Value, json};

/// How the states of a cycle are taken, and what that is worth.
enum Way {
    /// A snapshot of each disk.
    Snapshots { label: PointLabel, reason: String },
    /// A restore point of the machine.
    RestorePoint { machine: Value },
}

impl ManagedSnapshots {
    pub(super) fn make(&self, notes: &mut Notes, cycle: u64) -> Result<Taken, Finding> {
        let disks = self.look()?;
        self.has_room(notes, &disks)?;
        let reason = match self.way(&disks)? {
            Way::Snapshots { label, reason } => return self.snapshots(notes, cycle, &disks, label, reason),
            Way::RestorePoint { machine } => match self.restore_point(notes, cycle, &disks, &machine) {
                Err(CallError::Refused(refused)) if matches!(refused.status, 200 | 400 | 409) => {
                    let why = CallError::Refused(refused).finding();
                    if why.code == Code::SnapshotLimit {
                        return Err(why);
                    }
                    self.forget_unfinished(notes)?;
                    format!("no restore point: {}", why.evidence)
                }
                other => return other.map_err(CallError::finding),
            },
        };
        self.snapshots(notes, cycle, &disks, PointLabel::PerDisk, reason)
    }

    /// The disks as they are.
    fn look(&self) -> Result<Vec<(String, Value)>, Finding> {
        let cloud = Cloud(&*self.arm);
        let look = |disk: &super::AzureDisk| {
            let found = cloud.disk(disk.path()).map_err(CallError::finding)?;
            path_in(&found["id"], disk.name())?;
            Ok((disk.name().to_owned(), found))
        };
        self.disks.iter().map(|(_, disk)| look(disk)).collect()
    }

    fn way(&self, disks: &[(String, Value)]) -> Result<Way, Finding> {
        if disks.len() < 2 {
            return Ok(Way::Snapshots { label: PointLabel::CrashConsistent, reason: String::new() });
        }
        let owner = |disk: &Value| disk["managedBy"].as_str().unwrap_or_default().to_owned();
        let path = owner(&disks[0].1);
        let is_one = !path.is_empty() && disks.iter().all(|(_, disk)| is_same(&owner(disk), &path));
        let machine = match is_one {
            true => {
                let path = path_in(&Value::from(path), "the disk's machine")?;
                Some(Cloud(&*self.arm).machine(&path).map_err(CallError::finding)?)
            }
            false => None,
        };
        Ok(match (why_per_disk(machine.as_ref(), disks), machine) {
            (None, Some(machine)) => Way::RestorePoint { machine },
            (why, _) => Way::Snapshots { label: PointLabel::PerDisk, reason: why.unwrap_or_default() },
        })
    }

    /// Waits until Azure makes one more snapshot of each disk.
    fn has_room(&self, notes: &Notes, disks: &[(String, Value)]) -> Result<(), Finding> {
        if !Accounting::has_room(notes.sets.len()) {
            let evidence =
                format!("{} states of the machine are in the cloud, and it keeps no more", notes.sets.len());
            return Err(Finding::error(Code::SnapshotLimit, evidence));
        }
        loop {
            let now = self.arm.now_unix_ms();
            let waits = disks.iter().map(|(name, _)| (notes.asked.wait(name, now), name));
            let Some((wait, name)) = waits.max() else { return Ok(()) };
            if wait.is_zero() {
                return Ok(());
            }
            let evidence = format!("{name} had as many snapshots within 5 minutes as Azure makes");
            pause(&*self.arm, wait, &Finding::info(Code::SnapshotLimit, evidence))?;
        }
    }

    /// Notes what will be asked for.
    fn plan(&self, notes: &mut Notes, set: Set, disks: &[(String, Value)]) -> Result<usize, Finding> {
        disks.iter().for_each(|(name, _)| notes.asked.asked(name, set.asked_unix_ms));
        notes.sets.push(set);
        notes.keep(&self.path)?;
        Ok(notes.sets.len() - 1)
    }

    fn set(&self, cycle: u64, label: PointLabel, reason: &str) -> Set {
        let member = |path: String, disk| Member {
            disk,
            path,
            length_bytes: 0,
            family: String::new(),
            access_until_unix_ms: 0,
        };
        let now = self.arm.now_unix_ms();
        Set {
            cycle,
            stage: Stage::Asked,
            restore_point: None,
            asked_unix_ms: now,
            taken_unix_ms: now,
            label: label.as_str().into(),
            reason: PointClaim::new(0, label, reason).reason,
            members: self.disks.iter().map(|(id, _)| member(String::new(), id.to_string())).collect(),
        }
    }

    fn snapshots(
        &self,
        notes: &mut Notes,
        cycle: u64,
        disks: &[(String, Value)],
        label: PointLabel,
        reason: String,
    ) -> Result<Taken, Finding> {
        let cloud = Cloud(&*self.arm);
        let mut set = self.set(cycle, label, &reason);
        for (at, (member, (_, disk))) in set.members.iter_mut().zip(&self.disks).enumerate() {
            let name = format!("{}-{at}", self.name(notes, cycle));
            member.path = format!("{}/providers/Microsoft.Compute/snapshots/{name}", disk.group());
        }
        let at = self.plan(notes, set, disks)?;
        let tags = self.tags(notes, cycle);
        let mut made = Vec::new();
        for (member, (_, disk)) in notes.sets[at].members.iter().zip(disks) {
            made.push(cloud.snapshot(&member.path, disk, &tags).map_err(CallError::finding)?);
        }
        self.finish(notes, at, made, "incrementalSnapshotFamilyId", disks)
    }

    fn restore_point(
        &self,
        notes: &mut Notes,
        cycle: u64,
        disks: &[(String, Value)],
        machine: &Value,
    ) -> Result<Taken, CallError> {
        let cloud = Cloud(&*self.arm);
        let path = path_in(&machine["id"], "the machine").map_err(CallError::Failed)?;
        let Some((group, _)) = path.split_once("/providers/") else {
            let evidence = format!("{path} lies in no group");
            return Err(CallError::Failed(Finding::error(Code::CloudFailed, evidence)));
        };
        let owner = &notes.owner[..8.min(notes.owner.len())];
        let name = format!("fb-{}-{owner}", last(&path));
        let collection = format!("{group}/providers/Microsoft.Compute/restorePointCollections/{name}");
        let point = format!("{collection}/restorePoints/{}", self.name(notes, cycle));
        let mut set = self.set(cycle, PointLabel::CrashConsistent, "");
        set.restore_point = Some(point.clone());
        let at = self.plan(notes, set, disks).map_err(CallError::Failed)?;
        let mut tags = self.tags(notes, cycle);
        // It serves all cycles.
        tags.as_object_mut().map(|tags| tags.remove("failback-cycle"));
        cloud.collection(&collection, machine, &tags)?;
        let made = cloud.restore_point(&point, &left_out(machine, disks))?;
        let when = made["properties"]["timeCreated"].clone();
        let mut found = cloud.disks_of(&point)?;
        let mut ordered = Vec::new();
        for (name, disk) in disks {
            let id = disk["id"].as_str().unwrap_or_default();
            let is_of = |state: &Value| {
                is_same(state["properties"]["sourceResourceId"].as_str().unwrap_or_default(), id)
            };
            let Some(which) = found.iter().position(is_of) else {
                let evidence = format!("{point} does not hold {name}");
                return Err(CallError::Failed(Finding::error(Code::CloudFailed, evidence)));
            };
            let mut state = found.swap_remove(which);
            if time_in(&when).is_some() {
                state["properties"]["timeCreated"] = when.clone();
            }
            ordered.push(state);
        }
        for (member, state) in notes.sets[at].members.iter_mut().zip(&ordered) {
            member.path = path_in(&state["id"], "a restore point").map_err(CallError::Failed)?;
        }
        self.finish(notes, at, ordered, "familyId", disks).map_err(CallError::Failed)
    }

    /// Waits until all of a set can be read, and notes that it stands.
    fn finish(
        &self,
        notes: &mut Notes,
        at: usize,
        made: Vec<Value>,
        family: &str,
        disks: &[(String, Value)],
    ) -> Result<Taken, Finding> {
        let mut taken_unix_ms = u64::MAX;
        for ((member, state), (_, disk)) in notes.sets[at].members.iter_mut().zip(made).zip(disks) {
            let state = self.await_copy(&member.path, state)?;
            let properties = &state["properties"];
            member.family = properties[family].as_str().unwrap_or_default().into();
            let length =
                properties["diskSizeBytes"].as_u64().or(disk["properties"]["diskSizeBytes"].as_u64());
            member.length_bytes = length.unwrap_or_default();
            taken_unix_ms = taken_unix_ms.min(time_in(&properties["timeCreated"]).unwrap_or(u64::MAX));
        }
        let set = &mut notes.sets[at];
        set.taken_unix_ms = taken_unix_ms.min(self.arm.now_unix_ms());
        set.stage = Stage::Taken;
        let result = taken(set);
        notes.keep(&self.path)?;
        Ok(result)
    }

    /// Ultra and Premium v2 disks: a state is read once the copy behind it is complete.
    fn await_copy(&self, path: &str, mut state: Value) -> Result<Value, Finding> {
        let deadline = self.arm.now_unix_ms().saturating_add(AZURE_COPY_MAX.as_millis() as u64);
        loop {
            let done = state["properties"]["completionPercent"].as_f64().unwrap_or(100.0);
            if done >= 100.0 {
                return Ok(state);
            }
            let evidence = format!("{}: {done:.0} % are copied, and it is read only then", last(path));
            if self.arm.now_unix_ms() > deadline {
                return Err(Finding::error(Code::SnapshotLimit, evidence));
            }
            pause(&*self.arm, AZURE_COPY_POLL, &Finding::info(Code::SnapshotLimit, evidence))?;
            state = Cloud(&*self.arm).disk(path).map_err(CallError::finding)?;
        }
    }

    /// A name that no other cycle and no other installation gives: at most 80 characters of Azure's.
    fn name(&self, notes: &Notes, cycle: u64) -> String {
        let machine: String = self.machine.as_str().chars().take(30).collect();
        let owner = &notes.owner[..8.min(notes.owner.len())];
        format!("fb-{}-{owner}-c{cycle}", machine.replace('.', "-"))
    }

    fn tags(&self, notes: &Notes, cycle: u64) -> Value {
        json!({
            "failback-machine": self.machine.as_str(),
            "failback-cycle": cycle.to_string(),
            "failback-owner": notes.owner,
        })
    }
}

/// Disks of the machine that nobody asked for.
fn left_out<'a>(machine: &'a Value, disks: &[(String, Value)]) -> Vec<&'a str> {
    let storage = &machine["properties"]["storageProfile"];
    let data = storage["dataDisks"].as_array().map_or(&[][..], Vec::as_slice);
    let attached = std::iter::once(&storage["osDisk"]).chain(data);
    let ids = attached.filter_map(|disk| disk["managedDisk"]["id"].as_str());
    let is_ours =
        |id: &str| disks.iter().any(|(_, disk)| is_same(disk["id"].as_str().unwrap_or_default(), id));
    ids.filter(|id| !is_ours(id)).collect()
}
