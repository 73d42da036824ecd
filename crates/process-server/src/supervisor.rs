//! One task for each disk that shall replicate: it waits for memory, carries a pass, and tries again what may heal.
//!
//! **Invariant**: a disk has at most one task; a task that ended said why in the disk's status.

mod claims;
mod cycles;
mod pacing;
mod task;

use crate::config::Machine;
use crate::egress::Egress;
use crate::managed::Managed;
use crate::runner::Runner;
use claims::Claims;
use failback_model::{DiskId, Finding, MachineId};
use failback_service::daemon::Kit;
use failback_service::registry::{Registry, Wanted};
use failback_transport::{Schedule, Throttle, Tls};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Name = (MachineId, DiskId);

/// The supervisor; clones share it.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    kit: Kit,
    registry: Registry<Machine>,
    runner: Arc<dyn Runner>,
    tls: Tls,
    runtime: Handle,
    tasks: TaskTracker,
    running: Mutex<BTreeMap<Name, Running>>,
    throttles: Mutex<BTreeMap<MachineId, Limit>>,
    claims: Claims,
    managed: Managed,
    /// What jobs sent.
    egress: Egress,
    /// Wakes the driver of a machine's cycles.
    drivers: Mutex<BTreeMap<MachineId, Arc<Notify>>>,
}

struct Running {
    stop: CancellationToken,
    /// Ends a wait for the next try.
    hurry: Arc<Notify>,
}

/// A machine's bandwidth.
struct Limit {
    throttle: Throttle,
    /// Set over the control socket: holds against the configuration until it is taken back.
    is_overridden: bool,
}

impl Supervisor {
    /// A supervisor without tasks; must be made within a runtime.
    pub fn new(
        kit: Kit,
        registry: Registry<Machine>,
        runner: Arc<dyn Runner>,
        tls: Tls,
        managed: Managed,
    ) -> Result<Self, Finding> {
        let egress = Egress::open(kit.state.join("egress.json"))?;
        let supervisor = Self(Arc::new(Shared {
            kit,
            registry,
            runner,
            tls,
            managed,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            running: Mutex::default(),
            throttles: Mutex::default(),
            claims: Claims::default(),
            egress,
            drivers: Mutex::default(),
        }));
        supervisor.keep_pace();
        Ok(supervisor)
    }

    /// Starts a task for every disk that shall replicate, is not sealed, and has none. Called after every change.
    pub fn settle(&self) {
        let machines = self.0.registry.machines();
        self.expect(&machines);
        // A machine that was released leaves no limit to the next one of its name.
        self.throttles().retain(|id, _| machines.iter().any(|machine| machine.id == *id));
        self.0.claims.retain(|id| machines.iter().any(|machine| machine.id == *id));
        self.drive(&machines);
        for machine in machines {
            self.follow(&machine);
            let intent = self.0.registry.intent(&machine.id);
            let is_over = intent.cycles.failing.is_some();
            if intent.wanted != Wanted::Running || is_over || self.0.kit.stop.is_cancelled() {
                continue;
            }
            for disk in machine.disk.iter().filter(|disk| !intent.is_sealed(&disk.id)) {
                self.start((machine.id.clone(), disk.id.clone()));
            }
        }
    }

    /// Ends a machine's tasks at their next durable group.
    pub fn stop(&self, machine: &MachineId) -> usize {
        let running = self.running();
        let stopped: Vec<_> = running.iter().filter(|((id, _), _)| id == machine).collect();
        stopped.iter().for_each(|(_, task)| task.stop.cancel());
        stopped.len()
    }

    /// Ends waits for a machine's next tries.
    pub fn hurry(&self, machine: &MachineId) {
        self.0.claims.hurry(machine);
        let running = self.running();
        running.iter().filter(|((id, _), _)| id == machine).for_each(|(_, task)| task.hurry.notify_one());
    }

    /// Whether a machine has a task.
    pub fn is_running(&self, machine: &MachineId) -> bool {
        self.running().keys().any(|(id, _)| id == machine)
    }

    /// Number of tasks.
    pub fn count(&self) -> usize {
        self.running().len()
    }

    /// Returns once every task has ended. None starts after the kit's stop.
    pub async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Changes a machine's bandwidth; `None`: back to its definition.
    pub fn set_bandwidth(&self, machine: &Machine, schedule: Option<Schedule>) {
        let throttle = self.throttle(machine);
        let is_overridden = schedule.is_some();
        throttle.set(schedule.unwrap_or_else(|| machine.bandwidth.clone()));
        if let Some(limit) = self.throttles().get_mut(&machine.id) {
            limit.is_overridden = is_overridden;
        }
    }

    /// A machine's bandwidth, shared by its disks.
    fn throttle(&self, machine: &Machine) -> Throttle {
        let mut throttles = self.throttles();
        let limit = throttles.entry(machine.id.clone()).or_insert_with(|| Limit {
            throttle: Throttle::new(machine.bandwidth.clone()),
            is_overridden: false,
        });
        limit.throttle.clone()
    }

    /// Takes a changed definition's bandwidth over.
    fn follow(&self, machine: &Machine) {
        if let Some(limit) = self.throttles().get(&machine.id)
            && !limit.is_overridden
            && limit.throttle.schedule() != machine.bandwidth
        {
            limit.throttle.set(machine.bandwidth.clone());
        }
    }

    /// Tells the budget how many disks may come to run at once.
    fn expect(&self, machines: &[Machine]) {
        let is_wanted = |machine: &&Machine| self.0.registry.intent(&machine.id).wanted == Wanted::Running;
        let disks = machines.iter().filter(is_wanted).map(|machine| machine.disk.len()).sum();
        self.0.kit.budget.expect(disks);
    }

    fn start(&self, name: Name) {
        let mut running = self.running();
        if running.contains_key(&name) {
            return;
        }
        let task = Running { stop: self.0.kit.stop.child_token(), hurry: Arc::new(Notify::new()) };
        let (stop, hurry) = (task.stop.clone(), Arc::clone(&task.hurry));
        running.insert(name.clone(), task);
        let supervisor = self.clone();
        let task = async move {
            let end = supervisor.replicate(&name, &stop, &hurry).await;
            let mut running = supervisor.running();
            // Whoever hears of the end and asks for more finds that there is no task.
            supervisor.tell(&name, &end);
            running.remove(&name);
            drop(running);
            supervisor.look_again(&name.0);
            // Stopped and resumed in one breath: the new task waits for the old one's end.
            supervisor.settle_after_stop(&name, &stop);
        };
        self.0.tasks.spawn_on(task, &self.0.runtime);
    }

    fn settle_after_stop(&self, (machine, _): &Name, stop: &CancellationToken) {
        let is_wanted = self.0.registry.intent(machine).wanted == Wanted::Running;
        let is_paused = self.goal_over(machine).is_some();
        if stop.is_cancelled() && is_wanted && !is_paused && !self.0.kit.stop.is_cancelled() {
            self.settle();
        }
    }

    fn drivers(&self) -> MutexGuard<'_, BTreeMap<MachineId, Arc<Notify>>> {
        self.0.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Name, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttles(&self) -> MutexGuard<'_, BTreeMap<MachineId, Limit>> {
        self.0.throttles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
