//! From a configuration to the end of the process.

use super::{Base, Daemon, DaemonConfig as _, Kit};
use crate::admin::{Admin, AdminServer};
use crate::clock::unix_ms;
use crate::config::AdminAddress;
use crate::control::{About, ControlServer, Desk, Orders};
use crate::event::Event;
use crate::metrics;
use crate::notify::{Notifier, watchdog_interval};
use crate::signals::{Signal, Signals};
use crate::status::{DaemonStatus, DiskStage};
use failback_model::limits::DRAIN_MAX;
use failback_model::{Code, ExitClass, Finding};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often counters are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often systemd is told what goes on.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Runs a daemon until a signal ends it.
pub(super) fn run<D: Daemon>(config: D::Config, config_path: PathBuf) -> Result<ExitClass, Vec<Finding>> {
    let base = config.base();
    let about = About { daemon: D::NAME, version: D::VERSION, started_unix_ms: unix_ms() };
    let kit =
        Kit::new(about, &config_path, &base.state_dir, base.memory.0).map_err(|finding| vec![finding])?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![Finding::error(Code::Internal, format!("cannot start threads: {error}"))])?;
    let ended = runtime.block_on(live::<D>(config, &base, kit));
    // Whatever still blocks was given its time.
    runtime.shutdown_background();
    ended
}

async fn live<D: Daemon>(config: D::Config, base: &Base, kit: Kit) -> Result<ExitClass, Vec<Finding>> {
    let alone = |finding| vec![finding];
    let mut signals = Signals::listen().map_err(alone)?;
    let notifier = Arc::new(Notifier::from_environment());
    let server = ControlServer::bind(&base.control).map_err(alone)?;
    let admin = match base.admin {
        AdminAddress::On(address) => Some(AdminServer::bind(address).await.map_err(alone)?),
        AdminAddress::Off => None,
    };
    let daemon = D::open(config, kit.clone()).await?;
    let orders: Arc<dyn Orders> = Arc::clone(&daemon) as _;
    let jobs = kit.state.join("jobs.jsonl");
    let desk =
        Desk::open(kit.about.clone(), Arc::clone(&orders), Arc::clone(&kit.events), &jobs).map_err(alone)?;
    // The sockets answer also while the daemon drains: that is when people ask.
    let end = CancellationToken::new();
    let serving = tokio::spawn(server.run(Arc::new(desk), end.clone()));
    if let Some(admin) = admin {
        let told = Told { kit: kit.clone(), orders: Arc::clone(&orders) };
        tokio::spawn(admin.run(Arc::new(told), end.clone()));
    }
    tokio::spawn(look(kit.clone(), Arc::clone(&orders), Arc::clone(&notifier), end.clone()));
    if let Some(every) = watchdog_interval() {
        tokio::spawn(watch(orders, Arc::clone(&notifier), every, end.clone()));
    }
    kit.events.publish(Event::DaemonStarted { daemon: D::NAME.into(), version: D::VERSION.into() });
    notifier.ready();
    let reason = loop {
        match signals.next().await {
            Signal::Stop(name) => break name,
            Signal::Reload => daemon.reload(),
        }
    };
    notifier.stopping();
    kit.events.publish(Event::DaemonStopping { reason: reason.into() });
    kit.stop.cancel();
    let exit = tokio::select! {
        () = daemon.drained() => ExitClass::Success,
        () = tokio::time::sleep(DRAIN_MAX) => {
            tracing::error!("passes did not end in time; what was acknowledged is durable");
            ExitClass::Interrupted
        }
        () = second_stop(&mut signals) => ExitClass::Signal,
    };
    end.cancel();
    // It takes its socket with it; one that stays is replaced by the next start.
    let _ = serving.await;
    Ok(exit)
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await == Signal::Reload {}
}

/// Looks at the counters once a second, and tells systemd now and then.
async fn look(kit: Kit, orders: Arc<dyn Orders>, notifier: Arc<Notifier>, end: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        kit.board.observe(Instant::now());
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            if let Ok(status) = orders.status(None) {
                notifier.status(&line(&status));
            }
        }
    }
}

/// Says that the daemon is alive, as long as its status can be had.
async fn watch(orders: Arc<dyn Orders>, notifier: Arc<Notifier>, every: Duration, end: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = Arc::clone(&orders);
        let status = tokio::task::spawn_blocking(move || asked.status(None));
        if tokio::time::timeout(every, status).await.is_ok_and(|status| status.is_ok()) {
            notifier.alive();
        }
    }
}

/// `2 machines, 5 disks: 3 replicating, 2 sealed`.
fn line(status: &DaemonStatus) -> String {
    let mut stages: BTreeMap<DiskStage, usize> = BTreeMap::new();
    for disk in status.machines.iter().flat_map(|machine| &machine.disks) {
        *stages.entry(disk.stage).or_default() += 1;
    }
    let disks: usize = stages.values().sum();
    let stages: Vec<_> = stages.iter().map(|(stage, count)| format!("{count} {}", stage.as_str())).collect();
    let (machines, stages) = (status.machines.len(), stages.join(", "));
    let state = if status.draining { "draining; " } else { "" };
    format!("{state}{machines} machines, {disks} disks{}{stages}", if disks == 0 { "" } else { ": " })
}

/// What the admin port tells.
struct Told {
    kit: Kit,
    orders: Arc<dyn Orders>,
}

impl Admin for Told {
    fn health(&self) -> Result<(), String> {
        if self.kit.stop.is_cancelled() { Err("draining".into()) } else { Ok(()) }
    }

    fn metrics(&self) -> String {
        match self.orders.status(None) {
            Ok(status) => metrics::expose(&status, &self.kit.board.totals()),
            Err(finding) => format!("# {}\n", finding.evidence.replace('\n', " ")),
        }
    }
}
