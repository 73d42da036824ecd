//! The verbs that change what a site's disks are: what each would do, and the beginning of each.
//!
//! **Invariant**: everything that forbids a verb is said before anything is done, and nothing is done before its line is in
//! the audit log and the verb is noted as under way.

use crate::MasterTarget;
use crate::audit::Deed;
use crate::cancel::Cancelling;
use crate::commit::Committing;
use crate::config::{Disk, Machine};
use crate::cutover::CuttingOver;
use crate::operation::{Operation, Work};
use failback_image::ImageSpec;
use failback_model::limits::JOURNAL_SEGMENT_MAX_BYTES;
use failback_model::{Code, Finding, JobId, MachineId};
use failback_service::clock::time_text;
use failback_service::control::{MachinePlan, Plan, Request};
use failback_service::event::{Caller, Event};
use failback_service::report::finding_lines;
use failback_service::size::human;
use failback_store::{
    Choice, GroupChoice, MachineStore, Member, Phase, Point, Standing, Wish, choose, choose_for_group,
};
use std::sync::Arc;

/// A verb that can begin.
struct Planned {
    machine: Machine,
    plan: MachinePlan,
    work: Box<dyn Work>,
}

/// A machine as the verbs look at it.
pub(crate) struct View {
    pub(crate) machine: Machine,
    pub(crate) store: Arc<MachineStore>,
    pub(crate) points: Vec<Point>,
    pub(crate) standing: Standing,
}

impl View {
    /// Undo from a point until now.
    pub(crate) fn undo_since(&self, number: u64) -> u64 {
        self.points.iter().filter(|point| point.number >= number).map(|point| point.undo_bytes).sum()
    }

    /// Space that going back to a point takes at most: it can be taken back itself.
    pub(crate) fn needed(&self, number: u64) -> u64 {
        match self.standing.at {
            Some(at) if at == number => 0,
            _ => self.store.predicted_undo(number) + JOURNAL_SEGMENT_MAX_BYTES,
        }
    }

    /// Where the disks are, in words.
    pub(crate) fn place(&self) -> String {
        let partial = if self.standing.is_partial { ", and a part of a pass" } else { "" };
        self.standing.at.map_or_else(|| "no point".into(), |at| format!("point {at}{partial}"))
    }

    /// What of the present state is gone once a way back was gone.
    fn partly(&self) -> Vec<String> {
        let text = "what an unfinished pass brought since then: only its source can bring it again";
        self.standing.is_partial.then(|| text.to_string()).into_iter().collect()
    }
}

impl MasterTarget {
    /// What a verb would do.
    pub(crate) fn plan_verb(&self, request: &Request) -> Result<Plan, Vec<Finding>> {
        let (planned, findings) = self.planned(request)?;
        Ok(Plan {
            verb: request.name().into(),
            machines: planned.into_iter().map(|planned| planned.plan).collect(),
            findings: finding_lines(&findings),
        })
    }

    /// Begins a verb; says what was begun.
    pub(crate) fn begin_verb(
        &self,
        caller: Caller,
        job: &JobId,
        request: &Request,
    ) -> Result<String, Vec<Finding>> {
        let (planned, _) = self.planned(request)?;
        let mut said = Vec::new();
        for Planned { machine, plan, work } in planned {
            let deed = Deed {
                verb: work.verb(),
                machine: machine.id.to_string(),
                job: job.to_string(),
                caller,
                direction: plan.direction.clone(),
                point: plan.point,
                destroyed: plan.destroyed,
            };
            said.push(plan.direction);
            let begun = Operation::begin(self, machine, deed, work);
            begun.map_err(|finding| vec![finding])?;
        }
        Ok(format!("{}; 'failback status' and the events follow it", said.join("; ")))
    }

    fn planned(&self, request: &Request) -> Result<(Vec<Planned>, Vec<Finding>), Vec<Finding>> {
        let alone = |finding| vec![finding];
        match request {
            Request::Cutover { of, point, .. } => self.plan_cutover(of, *point),
            Request::Cancel { machine, .. } => self.plan_cancel(machine).map_err(alone),
            Request::Commit { machine, without_receipt, .. } => self.plan_commit(machine, *without_receipt),
            request => {
                let evidence = format!("'{}' is no verb that can be planned", request.name());
                Err(vec![Finding::error(Code::RequestInvalid, evidence)])
            }
        }
    }

    /// The machine of this id, or all of the group of this name.
    fn named(&self, of: &MachineId) -> Result<Vec<Machine>, Finding> {
        let registry = self.site.registry();
        let one = registry.machine(of);
        let is_of =
            |machine: &Machine| machine.group.as_ref().is_some_and(|group| group.as_str() == of.as_str());
        match one {
            Ok(machine) => Ok(vec![machine]),
            Err(unknown) => match registry.machines().into_iter().filter(is_of).collect::<Vec<_>>() {
                none if none.is_empty() => Err(unknown),
                group => Ok(group),
            },
        }
    }

    fn look(&self, machine: Machine) -> Result<View, Finding> {
        if machine.disk.is_empty() {
            return Err(Finding::error(Code::RequestInvalid, format!("machine {} has no disk", machine.id)));
        }
        if let Some(finding) = self.site.pending().bars(&machine.id)
            && !self.site.pending().is_cut_off(&machine.id)
        {
            return Err(finding);
        }
        let store = self.site.stores().machine(&machine.id)?;
        let (points, standing) = (store.points(), store.standing());
        Ok(View { machine, store, points, standing })
    }

    fn plan_cutover(&self, of: &MachineId, wish: Wish) -> Result<(Vec<Planned>, Vec<Finding>), Vec<Finding>> {
        let machines = self.named(of).map_err(|finding| vec![finding])?;
        let looked: Vec<_> = machines.into_iter().map(|machine| self.look(machine)).collect();
        let mut found: Vec<Finding> =
            looked.iter().filter_map(|looked| looked.as_ref().err().cloned()).collect();
        let sites: Vec<View> = looked.into_iter().filter_map(Result::ok).collect();
        let chosen = if sites.is_empty() { Ok(Default::default()) } else { choose_all(&sites, wish) };
        let (chosen, findings) = chosen.map_err(|finding| found.push(finding)).unwrap_or_default();
        found.extend(sites.iter().filter(|site| !site.points.is_empty()).flat_map(not_there));
        found.extend(sites.iter().zip(&chosen).filter_map(|(site, choice)| lacks_a_disk(site, choice)));
        let space =
            sites.iter().zip(&chosen).filter_map(|(site, chosen)| self.no_room(site, chosen.point.number));
        found.extend(space);
        if !found.is_empty() {
            return Err(found);
        }
        let planned = sites.into_iter().zip(chosen);
        Ok((planned.map(|(site, choice)| self.cutover_of(site, choice)).collect(), findings))
    }

    fn cutover_of(&self, site: View, choice: Choice) -> Planned {
        let (id, number) = (&site.machine.id, choice.point.number);
        let is_there = site.standing.at == Some(number) && !site.standing.is_partial;
        let what = if is_there { "stay as they are, and are released" } else { "go back, and are released" };
        let way_back = format!(
            "until commit: 'failback cutover {id} --point {}' to what is there now, 'failback cancel {id}' to the original",
            site.standing.at.unwrap_or(number)
        );
        let mut plan = self.plan_of(
            &site,
            number,
            format!("{id}: {} -> point {number}; its disks {what}", site.place()),
        );
        (plan.choice, plan.way_back) =
            (choice.to_string().lines().map(|line| line.trim().into()).collect(), way_back);
        if site.standing.is_partial {
            plan.choice.push(format!(
                "{id}: a pass since point {} is not sealed, so it is no point",
                site.standing.at.unwrap_or(0)
            ));
        }
        let machine = site.machine.clone();
        Planned { machine, plan, work: Box::new(CuttingOver { point: choice.point }) }
    }

    fn plan_cancel(&self, machine: &MachineId) -> Result<(Vec<Planned>, Vec<Finding>), Finding> {
        let site = self.look(self.site.registry().machine(machine)?)?;
        if site.standing.phase == Phase::Committed {
            let evidence = format!("{machine} was committed: its original is gone");
            return Err(Finding::error(Code::AlreadyCommitted, evidence));
        }
        let created = self.created(&site)?;
        let has_original = site.points.first().is_some_and(|point| point.number == 0);
        if !has_original && created.len() < site.machine.disk.len() {
            let evidence = match site.points.is_empty() {
                true => format!("{machine}: nothing was written to its disks yet"),
                false => format!("{machine}: point 0 was given up, nothing leads back to the original"),
            };
            return Err(Finding::error(Code::PointUnknown, evidence));
        }
        if let Some(finding) = self.no_room(&site, 0).filter(|_| has_original) {
            return Err(finding);
        }
        let direction =
            format!("{machine}: {} -> point 0, the original, and its disks are released", site.place());
        let mut plan = self.plan_of(&site, 0, direction);
        plan.destroyed
            .extend(created.iter().map(|disk| format!("{}: its job made it, it is removed", disk.path)));
        plan.choice = vec![format!("{machine}: the original, as it was before the first pass")];
        let newest = site.standing.at.unwrap_or(0);
        plan.way_back = match created.is_empty() {
            true => format!("until commit: 'failback cutover {machine} --point {newest}'"),
            false => "none for images that are removed: a new 'failback reprotect' brings them home".into(),
        };
        let created = created.into_iter().map(|disk| disk.id).collect();
        let machine = site.machine.clone();
        Ok((
            vec![Planned { machine, plan, work: Box::new(Cancelling { created, has_original }) }],
            Vec::new(),
        ))
    }

    fn plan_commit(
        &self,
        machine: &MachineId,
        without_receipt: bool,
    ) -> Result<(Vec<Planned>, Vec<Finding>), Vec<Finding>> {
        let alone = |finding| vec![finding];
        let site = self.look(self.site.registry().machine(machine).map_err(alone)?).map_err(alone)?;
        if self.site.pending().is_cut_off(machine) {
            return Err(self.site.pending().bars(machine).into_iter().collect());
        }
        match site.standing.phase {
            Phase::Committed => {
                let evidence = format!("{machine} was committed before: nothing can be taken back any more");
                return Err(alone(Finding::error(Code::AlreadyCommitted, evidence)));
            }
            Phase::Replicating => {
                let evidence =
                    format!("{machine} replicates: a commit is for what was cut over to, or cancelled");
                return Err(alone(Finding::error(Code::NotReleased, evidence)));
            }
            Phase::Released { .. } | Phase::Cancelled => {}
        }
        let is_removed =
            site.standing.phase == Phase::Cancelled && site.points.iter().all(|point| point.number > 0);
        if site.standing.is_partial && !is_removed {
            let evidence =
                format!("{machine}: {}: what its disks hold is no state of anything", site.place());
            let remedy =
                format!("'failback cutover {machine} --point latest' or 'failback cancel {machine}' first");
            return Err(alone(Finding::error(Code::NotReleased, evidence).with_remedy(remedy)));
        }
        let unproven = self.site.unproven(&site);
        let findings = match (unproven, without_receipt) {
            (Some(finding), false) => return Err(alone(finding)),
            (Some(finding), true) => vec![Finding { severity: failback_model::Severity::Warning, ..finding }],
            (None, _) => Vec::new(),
        };
        let undo_bytes: u64 = site.points.iter().map(|point| point.undo_bytes).sum();
        let direction = format!("{machine}: {} becomes final", site.place());
        let mut plan = self.plan_of(&site, site.standing.at.unwrap_or(0), direction);
        plan.choice = vec![match findings.is_empty() {
            true => format!("{machine}: a receipt proves what is there"),
            false => format!("{machine}: no receipt proves what is there, and none is asked for"),
        }];
        plan.destroyed = vec![
            format!(
                "every way back: {} recovery points, the original among them where it was kept",
                site.points.len()
            ),
            format!("{} of undo", human(undo_bytes)),
        ];
        plan.way_back = "none".into();
        (plan.restore_bytes, plan.needed_bytes) = (0, 0);
        let machine = site.machine.clone();
        Ok((vec![Planned { machine, plan, work: Box::new(Committing) }], findings))
    }

    fn plan_of(&self, site: &View, number: u64, direction: String) -> MachinePlan {
        let (restore_bytes, needed_bytes) = (site.undo_since(number), site.needed(number));
        let free = self.site.undo_of(&site.machine.id, &site.store, &site.points).map(|undo| undo.free_bytes);
        MachinePlan {
            machine: site.machine.id.to_string(),
            point: Some(number),
            direction,
            choice: Vec::new(),
            destroyed: site.partly(),
            way_back: String::new(),
            images: site.machine.disk.iter().map(|disk| disk.path.clone()).collect(),
            restore_bytes,
            needed_bytes,
            free_bytes: free.unwrap_or(0),
        }
    }

    /// A way back can itself be taken back: that needs room.
    fn no_room(&self, site: &View, number: u64) -> Option<Finding> {
        let undo = self.site.undo_of(&site.machine.id, &site.store, &site.points).ok()?;
        let needed = site.needed(number);
        (undo.free_bytes < needed).then(|| {
            let (id, folder) = (&site.machine.id, &undo.folder);
            let evidence = format!(
                "{id}: going back may log {}, and {folder} has {}",
                human(needed),
                human(undo.free_bytes)
            );
            Finding::error(Code::UndoSpace, evidence)
        })
    }

    /// Disks whose images a session made.
    fn created(&self, site: &View) -> Result<Vec<Disk>, Finding> {
        let mut created = Vec::new();
        for disk in &site.machine.disk {
            let known = site.store.disks().contains(&disk.id);
            if known && site.store.disk(&disk.id).map_err(|error| error.to_finding())?.was_created() {
                created.push(disk.clone());
            }
        }
        Ok(created)
    }

    /// Forgets points.
    pub(crate) fn drop_points(
        &self,
        caller: Caller,
        job: &JobId,
        machine: &MachineId,
        numbers: &[u64],
        give_up_cancel: bool,
    ) -> Result<String, Finding> {
        let site = self.look(self.site.registry().machine(machine)?)?;
        let plan = self.dropping(&site, numbers, give_up_cancel)?;
        let deed = Deed {
            verb: "drop_points",
            machine: machine.to_string(),
            job: job.to_string(),
            caller,
            direction: plan.direction,
            point: None,
            destroyed: plan.destroyed,
        };
        self.site.audit().begins(&deed)?;
        let freed = site.store.drop_points(numbers, give_up_cancel).map_err(|error| error.to_finding());
        let said = freed
            .as_ref()
            .map(|freed| format!("{machine}: {} points dropped, {} freed", numbers.len(), human(*freed)));
        self.site
            .audit()
            .ended(&deed, &said.clone().map_err(|finding| finding_lines(std::slice::from_ref(finding))));
        let said = said.map_err(Clone::clone)?;
        self.site.kit().events.publish(Event::PointsDropped {
            machine: machine.to_string(),
            points: numbers.to_vec(),
            freed_bytes: freed?,
            reason: "asked for".into(),
        });
        self.site.write_sidecars(&site.machine, &site.store);
        Ok(said)
    }

    /// What dropping points would do.
    pub(crate) fn plan_drop(
        &self,
        machine: &MachineId,
        numbers: &[u64],
        give_up: bool,
    ) -> Result<Plan, Finding> {
        let site = self.look(self.site.registry().machine(machine)?)?;
        let plan = self.dropping(&site, numbers, give_up)?;
        Ok(Plan { verb: "drop_points".into(), machines: vec![plan], findings: Vec::new() })
    }

    fn dropping(&self, site: &View, numbers: &[u64], give_up_cancel: bool) -> Result<MachinePlan, Finding> {
        let id = &site.machine.id;
        if numbers.is_empty() {
            return Err(Finding::error(Code::RequestInvalid, "no point is named"));
        }
        let is_there = |number: &u64| site.points.iter().any(|point| point.number == *number);
        if let Some(unknown) = numbers.iter().find(|number| !is_there(number)) {
            return Err(Finding::error(Code::PointUnknown, format!("{id} has no recovery point {unknown}")));
        }
        if let Some(newest) = site.standing.at.filter(|newest| numbers.contains(newest)) {
            let evidence = format!("{id}: point {newest} is the newest, which is never dropped");
            return Err(Finding::error(Code::PointUnknown, evidence));
        }
        if numbers.contains(&0) && !give_up_cancel {
            let finding = Finding::error(Code::PointUnknown, format!("{id}: point 0 is the original"));
            return Err(finding.with_remedy("--give-up-cancel drops it: nothing can be cancelled then"));
        }
        let mut plan = self.plan_of(
            site,
            site.standing.at.unwrap_or(0),
            format!("{id}: points {numbers:?} are forgotten"),
        );
        plan.point = None;
        plan.destroyed = numbers
            .iter()
            .map(|number| match number {
                0 => "point 0: nothing can be cancelled any more".into(),
                number => format!("point {number}: nothing leads back to it any more"),
            })
            .collect();
        plan.way_back = "none".into();
        (plan.restore_bytes, plan.needed_bytes) = (0, 0);
        Ok(plan)
    }
}

/// A point is of all disks of its machine, or none to go to: a disk that was registered since has no state in it.
fn lacks_a_disk(site: &View, choice: &Choice) -> Option<Finding> {
    let is_held = |disk: &&Disk| choice.point.disks.iter().any(|held| held.disk == disk.id);
    let lacking: Vec<_> =
        site.machine.disk.iter().filter(|disk| !is_held(disk)).map(|disk| disk.id.as_str()).collect();
    (!lacking.is_empty()).then(|| {
        let (id, number, lacking) = (&site.machine.id, choice.point.number, lacking.join(", "));
        let finding =
            Finding::error(Code::PointUnknown, format!("{id}: point {number} does not hold {lacking}"));
        finding.with_remedy(
            "choose a point that has all disks; cancelling brings the originals of all of them back",
        )
    })
}

/// A choice for each machine, and what is worth knowing of a group's.
fn choose_all(sites: &[View], wish: Wish) -> Result<(Vec<Choice>, Vec<Finding>), Finding> {
    if let [site] = sites {
        if wish == Wish::Number(0) {
            let id = &site.machine.id;
            let finding = Finding::error(Code::PointUnknown, format!("{id}: point 0 is the original"));
            return Err(finding.with_remedy(format!("'failback cancel {id}' goes back to it")));
        }
        let choice = choose(&site.points, wish).map_err(|error| {
            let finding = error.to_finding();
            Finding { evidence: format!("{}: {}", site.machine.id, finding.evidence), ..finding }
        })?;
        return Ok((vec![choice], Vec::new()));
    }
    let members: Vec<_> =
        sites.iter().map(|site| Member { machine: &site.machine.id, points: &site.points }).collect();
    let GroupChoice { picked, spread_ms, blocked } =
        choose_for_group(&members, wish).map_err(|refusal| refusal.to_finding())?;
    let mut findings = Vec::new();
    if spread_ms > 0 {
        let evidence = format!("the machines' points are up to {} s apart", spread_ms.div_ceil(1000));
        findings.push(
            Finding::info(Code::PointUnknown, evidence).with_remedy("nothing to do where that is meant"),
        );
    }
    for moment in blocked {
        let by: Vec<_> = moment.by.iter().map(|by| format!("{}: {}", by.machine, by.why)).collect();
        let evidence = format!("no common point of {}: {}", time_text(moment.source_unix_ms), by.join("; "));
        findings.push(Finding::info(Code::PointUnknown, evidence).with_remedy("see what a point is worth"));
    }
    Ok((picked.into_iter().map(|picked| picked.choice).collect(), findings))
}

/// Images that a cut-over needs and that are not there, such as those that a cancel removed.
fn not_there(site: &View) -> Vec<Finding> {
    let missing = site
        .machine
        .disk
        .iter()
        .filter(|disk| !failback_image::exists(&ImageSpec::parse(&disk.path)).unwrap_or(true));
    let finding = |disk: &Disk| {
        let evidence = format!("{}/{}: {} does not exist", site.machine.id, disk.id, disk.path);
        Finding::error(Code::OpenFailed, evidence).about(&disk.path)
    };
    missing.map(finding).collect()
}
