//! The text that Prometheus reads, made of a daemon's status.
//!
//! **Invariant**: a counter never falls while the daemon runs, whatever passes come and go.

mod text;

pub use text::Exposition;

use crate::status::{CycleStatus, DaemonStatus, DiskStatus};
use std::collections::BTreeMap;
use text::Kind::{Counter, Gauge};

/// Counters of a disk's passes since the daemon started.
pub type Totals = BTreeMap<(String, String), BTreeMap<String, u64>>;

/// Everything, as text.
pub fn expose(status: &DaemonStatus, totals: &Totals) -> String {
    let mut text = Exposition::default();
    daemon(&mut text, status);
    for name in names(totals) {
        let family = format!("failback_disk_{name}_total");
        text.family(&family, Counter, &format!("{} of all passes since the start.", name.replace('_', " ")));
        for ((machine, disk), counters) in totals {
            if let Some(&value) = counters.get(name) {
                text.sample(&family, &[("machine", machine), ("disk", disk)], value as f64);
            }
        }
    }
    disks(&mut text, status);
    text.finish()
}

fn names(totals: &Totals) -> Vec<&str> {
    let mut names: Vec<_> = totals.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn daemon(text: &mut Exposition, status: &DaemonStatus) {
    text.family("failback_build_info", Gauge, "Version of the daemon.");
    text.sample("failback_build_info", &[("daemon", &status.daemon), ("version", &status.version)], 1.0);
    text.gauge("failback_start_time_seconds", "When the daemon started.", seconds(status.started_unix_ms));
    text.gauge("failback_draining", "1 while the daemon stops.", f64::from(status.draining));
    text.gauge("failback_sessions", "Sessions that are open.", status.sessions as f64);
    let memory = status.memory;
    text.gauge("failback_memory_budget_bytes", "Memory for contents under way.", memory.total_bytes as f64);
    text.gauge("failback_memory_granted_bytes", "What passes hold of it.", memory.granted_bytes as f64);
    if let Some(certificate) = &status.certificate {
        let expires = seconds(certificate.expires_unix_ms);
        text.gauge("failback_certificate_expiry_seconds", "When the daemon's certificate expires.", expires);
    }
    text.family("failback_errors_total", Counter, "Errors by code.");
    for (code, &count) in &status.errors {
        text.sample("failback_errors_total", &[("code", code)], count as f64);
    }
}

/// A gauge of every disk that has it.
type DiskGauge = (&'static str, &'static str, fn(&DiskStatus, u64) -> Option<f64>);

const DISK_GAUGES: [DiskGauge; 8] = [
    ("failback_disk_generation", "Number of the sealed state.", |disk, _| disk.generation.map(|n| n as f64)),
    ("failback_disk_lag_seconds", "Age of the sealed state.", |disk, now_ms| {
        disk.sealed_unix_ms.map(|sealed| seconds(now_ms.saturating_sub(sealed)))
    }),
    ("failback_disk_failed_tries", "Tries that failed since one got through.", |disk, _| {
        Some(f64::from(disk.failed_tries))
    }),
    ("failback_disk_window_bytes", "Memory that the running pass may hold.", |disk, _| {
        disk.window_bytes.map(|bytes| bytes as f64)
    }),
    ("failback_disk_credit_used_bytes", "Contents sent and not yet written.", |disk, _| {
        disk.pass.as_ref().filter(|_| disk.link.is_some()).map(|pass| pass.credit_used_bytes as f64)
    }),
    ("failback_disk_done_bytes", "Bytes of the disk that are done, and proven.", |disk, _| {
        disk.pass.as_ref().map(|pass| pass.done_bytes as f64)
    }),
    ("failback_disk_total_bytes", "Bytes to do and to prove by the pass.", |disk, _| {
        disk.pass.as_ref().map(|pass| pass.total_bytes as f64)
    }),
    ("failback_disk_left_seconds", "Time left at the average rates.", |disk, _| {
        disk.pass.as_ref()?.left_seconds.map(|left| left as f64)
    }),
];

/// A gauge of every machine whose cycles have it.
type CycleGauge = (&'static str, &'static str, fn(&CycleStatus) -> Option<f64>);

const CYCLE_GAUGES: [CycleGauge; 7] = [
    ("failback_cycle", "Number of the cycle that is under way or was the last.", |cycle| {
        Some(cycle.number as f64)
    }),
    ("failback_cycle_lag_seconds", "Age of the newest state that is home whole (RPO).", |cycle| {
        cycle.lag_seconds.map(|lag| lag as f64)
    }),
    ("failback_cycle_took_seconds", "Time of the last cycle that closed.", |cycle| {
        cycle.last.as_ref().map(|last| seconds(last.took_ms))
    }),
    ("failback_cycle_shipped_bytes", "Frames toward the target in that cycle.", |cycle| {
        cycle.last.as_ref().map(|last| last.shipped_bytes as f64)
    }),
    ("failback_cycle_read_bytes", "Bytes read from sources in that cycle.", |cycle| {
        cycle.last.as_ref().map(|last| last.read_bytes as f64)
    }),
    ("failback_churn_bytes_per_hour", "What ships for what changes in an hour.", |cycle| {
        cycle.churn_bytes_per_hour.map(|churn| churn as f64)
    }),
    ("failback_cycle_diverges", "1 where cycles do not converge on this link.", |cycle| {
        Some(f64::from(cycle.verdict.is_some()))
    }),
];

fn disks(text: &mut Exposition, status: &DaemonStatus) {
    let all = || {
        let disks = |machine| {
            let machine: &crate::status::MachineStatus = machine;
            machine.disks.iter().map(move |disk| (machine.id.as_str(), disk))
        };
        status.machines.iter().flat_map(disks)
    };
    for (name, help, value) in DISK_GAUGES {
        text.family(name, Gauge, help);
        for (machine, disk) in all() {
            if let Some(value) = value(disk, status.now_unix_ms) {
                text.sample(name, &[("machine", machine), ("disk", &disk.id)], value);
            }
        }
    }
    for (name, help, value) in CYCLE_GAUGES {
        text.family(name, Gauge, help);
        for machine in &status.machines {
            if let Some(value) = machine.cycle.as_ref().and_then(|cycle| value(cycle)) {
                text.sample(name, &[("machine", &machine.id)], value);
            }
        }
    }
    text.family("failback_disk_stage", Gauge, "1 for the stage that the disk is in.");
    for (machine, disk) in all() {
        let labels = [("machine", machine), ("disk", &disk.id), ("stage", disk.stage.as_str())];
        text.sample("failback_disk_stage", &labels, 1.0);
    }
    text.family("failback_disk_limited_by", Gauge, "1 for what holds the pass up most.");
    text.family("failback_disk_rate_bytes_per_second", Gauge, "Rates of the running pass by counter.");
    text.family("failback_disk_stage_seconds", Gauge, "Thread time of the pass by stage.");
    for (machine, disk) in all() {
        let Some(pass) = &disk.pass else { continue };
        if let Some(limiting) = pass.limiting.as_ref().filter(|_| disk.stage.is_active()) {
            let labels = [("machine", machine), ("disk", &disk.id), ("cause", &limiting.cause)];
            text.sample("failback_disk_limited_by", &labels, 1.0);
        }
        for (counter, &rate) in &pass.rates {
            let labels = [("machine", machine), ("disk", &disk.id), ("counter", counter)];
            text.sample("failback_disk_rate_bytes_per_second", &labels, rate as f64);
        }
        for (stage, &spent) in &pass.stage_seconds {
            let labels = [("machine", machine), ("disk", &disk.id), ("stage", stage)];
            text.sample("failback_disk_stage_seconds", &labels, spent);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CertificateStatus, DiskStage, Limiting, LinkStatus, Live, MachineStatus};

    fn status() -> DaemonStatus {
        let limiting = Limiting { cause: "link".into(), stage: None, why: "x".into() };
        let pass = Live {
            done_bytes: 5,
            total_bytes: 10,
            limiting: Some(limiting),
            rates: BTreeMap::from([("bytes_written".into(), 7)]),
            stage_seconds: BTreeMap::from([("write".into(), 1.5)]),
            credit_used_bytes: 4096,
            ..Live::default()
        };
        let disk = DiskStatus {
            id: "disk0".into(),
            stage: DiskStage::Replicating,
            generation: Some(3),
            sealed_unix_ms: Some(1000),
            link: Some(LinkStatus::default()),
            pass: Some(pass),
            ..DiskStatus::default()
        };
        DaemonStatus {
            daemon: "process-server".into(),
            version: "1.2.3".into(),
            started_unix_ms: 1500,
            now_unix_ms: 3000,
            draining: false,
            memory: crate::budget::BudgetStatus { total_bytes: 100, granted_bytes: 8, running_disks: 1 },
            certificate: Some(CertificateStatus {
                identity: "failback://ps".into(),
                expires_unix_ms: 9000,
                error: None,
            }),
            receipt_key: None,
            sessions: 1,
            errors: BTreeMap::from([("FB509".into(), 2)]),
            machines: vec![MachineStatus {
                pace: None,
                cycle: None,
                recovery: None,
                id: "web\"01".into(),
                wanted: crate::registry::Wanted::Running,
                peer: "mt:9443".into(),
                disks: vec![disk],
            }],
        }
    }

    #[test]
    fn everything_an_alert_needs_is_there() {
        let totals = Totals::from([(
            ("web\"01".into(), "disk0".into()),
            BTreeMap::from([("bytes_written".into(), 1_u64 << 50)]),
        )]);
        let text = expose(&status(), &totals);
        for line in [
            "failback_build_info{daemon=\"process-server\",version=\"1.2.3\"} 1",
            "failback_certificate_expiry_seconds 9",
            "failback_errors_total{code=\"FB509\"} 2",
            "# TYPE failback_disk_bytes_written_total counter",
            "failback_disk_bytes_written_total{machine=\"web\\\"01\",disk=\"disk0\"} 1125899906842624",
            "failback_disk_lag_seconds{machine=\"web\\\"01\",disk=\"disk0\"} 2",
            "failback_disk_credit_used_bytes{machine=\"web\\\"01\",disk=\"disk0\"} 4096",
            "failback_disk_stage{machine=\"web\\\"01\",disk=\"disk0\",stage=\"replicating\"} 1",
            "failback_disk_limited_by{machine=\"web\\\"01\",disk=\"disk0\",cause=\"link\"} 1",
            "failback_disk_stage_seconds{machine=\"web\\\"01\",disk=\"disk0\",stage=\"write\"} 1.5",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
        }
        for line in text.lines() {
            let is_sound = line.starts_with("# HELP ")
                || line.starts_with("# TYPE ")
                || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
            assert!(is_sound, "{line}");
        }
    }
}
