//! One example of everything that crosses the control socket.

use failback_model::{Code, DiskId, Finding, JobId, MachineId};
use failback_service::budget::BudgetStatus;
use failback_service::control::{
    DiskForecast, Forecast, MachinePlan, MachinePoints, PassFlags, Plan, PointDiskStatus, PointStatus,
    ReceiptFile, RecoveryStatus, Reply, Request, StandingStatus, UndoStatus, Wish,
};
use failback_service::event::{Caller, Envelope, Event};
use failback_service::registry::{CycleOutcome, Wanted};
use failback_service::report::FindingLine;
use failback_service::status::{
    CertificateStatus, Comparison, DaemonStatus, DiskStage, DiskStatus, How, Limiting, LinkStatus, Live,
    MachineStatus,
};
use serde_json::json;
use std::collections::BTreeMap;

const NOW: u64 = 1_795_507_200_000;
const ROOT: &str = "5d2c9a0f7f4f6f1f3a64c1b3a2bb6a1e9f0cf5b0d6e8c4a7f1b2c3d4e5f60718";

fn job(id: &str) -> JobId {
    id.parse().expect("an id")
}

fn web01() -> MachineId {
    "web01".parse().expect("an id")
}

fn disk0() -> DiskId {
    "disk0".parse().expect("an id")
}

pub(crate) fn requests() -> Vec<Request> {
    let machine = json!({
        "id": "web01", "target": "mt.site-1.example:9443", "target_identity": "failback://master-target/site-1",
        "disk": [{ "id": "disk0", "source": "/snapshots/web01.vhd" }]
    });
    vec![
        Request::Version {},
        Request::Status { machine: Some(web01()) },
        Request::Registry { machine: None },
        Request::Events { since: Some(41), machine: None },
        Request::Cycle { job: job("job-18"), machine: web01(), is_final: true },
        Request::Reprotect {
            job: job("job-17"),
            machine: web01(),
            flags: PassFlags { verify: true, ..PassFlags::default() },
        },
        Request::Stop { job: job("job-18"), machine: web01() },
        Request::Resume { job: job("job-19"), machine: web01() },
        Request::Verify { job: job("job-20"), machine: web01(), disk: Some(disk0()) },
        Request::Receipt { machine: web01(), number: Some(3) },
        Request::Points { machine: web01() },
        Request::Forecast { machine: web01() },
        Request::Cutover { job: None, of: web01(), point: Wish::Latest },
        Request::Cutover { job: Some(job("job-31")), of: web01(), point: Wish::Number(17) },
        Request::Cancel { job: Some(job("job-32")), machine: web01() },
        Request::Commit { job: Some(job("job-33")), machine: web01(), without_receipt: false },
        Request::DropPoints {
            job: Some(job("job-34")),
            machine: web01(),
            numbers: vec![3, 4],
            give_up_cancel: false,
        },
        Request::RegisterMachine { job: job("job-21"), machine },
        Request::RegisterDisk {
            job: job("job-22"),
            machine: web01(),
            disk: json!({ "id": "disk1", "source": "/snapshots/web01-data.vhd" }),
        },
        Request::Release {
            job: job("job-23"),
            machine: web01(),
            disk: Some("disk1".parse().expect("an id")),
        },
        Request::Bandwidth { job: job("job-24"), machine: web01(), schedule: Some("20M".into()) },
        Request::Reload { job: job("job-25") },
    ]
}

pub(crate) fn replies() -> Vec<Reply> {
    vec![
        Reply::Version { daemon: "process-server".into(), version: "0.1.0".into() },
        Reply::Status { status: status() },
        Reply::Registry {
            machines: vec![
                json!({ "id": "web01", "allow": ["failback://process-server/azure-1"], "disk": [] }),
            ],
        },
        Reply::Receipt {
            receipt: ReceiptFile {
                path: "/var/lib/failback/master-target/receipts/web01/receipt-3.json".into(),
                text: "{\n  \"failback_receipt\": 2,\n  …\n}\n".into(),
            },
        },
        Reply::Points { points: points() },
        Reply::Plan { plan: plan() },
        Reply::Forecast { forecast: forecast() },
        Reply::Events { started_unix_ms: NOW - 3_600_000 },
        Reply::Done {
            job: job("job-17"),
            repeated: false,
            said: "web01: 2 disks go to mt.site-1.example:9443, epoch 1795507200".into(),
        },
        Reply::Refused {
            job: Some(job("job-18")),
            repeated: false,
            findings: vec![
                (&Finding::error(Code::UnknownMachine, "no machine web02 is registered here")).into(),
            ],
        },
    ]
}

fn recovery() -> RecoveryStatus {
    RecoveryStatus {
        group: Some("shop".into()),
        standing: StandingStatus {
            phase: "released".into(),
            since_unix_ms: NOW - 600_000,
            released_point: Some(17),
            at_point: Some(18),
            is_partial: false,
        },
        points: 12,
        newest_source_unix_ms: Some(NOW - 900_000),
        undo: UndoStatus {
            folder: "/undo/web01".into(),
            used_bytes: 7 << 30,
            free_bytes: 90 << 30,
            bytes_per_hour: Some(3 << 30),
            full_in_seconds: Some(106_800),
        },
        operation: None,
        findings: Vec::new(),
    }
}

fn points() -> MachinePoints {
    let disk = PointDiskStatus {
        id: "disk0".into(),
        generation: 17,
        root: Some(ROOT.into()),
        length_bytes: 20 << 30,
    };
    let point = PointStatus {
        number: 17,
        label: "crash-consistent".into(),
        reason: String::new(),
        source_unix_ms: NOW - 900_000,
        sealed_unix_ms: NOW - 840_000,
        restored: None,
        undo_bytes: 312_475_648,
        disks: vec![disk],
    };
    MachinePoints { machine: "web01".into(), recovery: recovery(), points: vec![point] }
}

fn plan() -> Plan {
    let machine = MachinePlan {
        machine: "web01".into(),
        point: Some(17),
        direction: "site disks of web01: point 18 -> point 17; nothing in the cloud is touched".into(),
        choice: vec!["point 17 loses 300 s against the newest, 18".into()],
        destroyed: Vec::new(),
        way_back: "'failback cutover web01 --point 18' goes forward again".into(),
        images: vec!["/mnt/nfs/web01/web01.vmdk".into()],
        restore_bytes: 312_475_648,
        needed_bytes: 312_475_648,
        free_bytes: 90 << 30,
    };
    Plan { verb: "cutover".into(), machines: vec![machine], findings: Vec::new() }
}

fn lost() -> FindingLine {
    FindingLine::from(&Finding::error(Code::ConnectionLost, "192.0.2.7:9443: Connection reset by peer"))
}

fn link() -> LinkStatus {
    LinkStatus {
        peer: "failback://master-target/site-1".into(),
        address: "192.0.2.7:9443".into(),
        data_connections: 4,
        sockets: BTreeMap::from([("congestion".into(), "bbr".into())]),
        clock_offset_ms: 12,
        bandwidth_bytes_per_second: Some(100 << 20),
    }
}

fn status() -> DaemonStatus {
    let limiting =
        Limiting { cause: "link".into(), stage: None, why: "40 % of the window wait to go out".into() };
    let pass = Live {
        measure: "settled".into(),
        done_bytes: 5 << 30,
        total_bytes: 20 << 30,
        left_seconds: Some(150),
        limiting: Some(limiting),
        counters: BTreeMap::from([
            ("bytes_to_target".into(), 312_475_648),
            ("tls_bytes_to_target".into(), 313_081_302),
            ("blocks_differing".into(), 9_120),
        ]),
        rates: BTreeMap::from([
            ("bytes_to_target".into(), 11_534_336),
            ("scanned_source_bytes".into(), 104_857_600),
        ]),
        stage_seconds: BTreeMap::from([("scan_source".into(), 48.5)]),
        credit_used_bytes: 26_843_545,
    };
    let disk = DiskStatus {
        id: "disk0".into(),
        stage: DiskStage::Replicating,
        stage_since_unix_ms: NOW - 50_000,
        link: Some(link()),
        session: Some(12),
        epoch: Some(NOW / 1000),
        generation: Some(3),
        root: Some(ROOT.into()),
        sealed_unix_ms: Some(NOW - 7_200_000),
        point_label: Some("per-disk".into()),
        point_reason: Some("3 disks, and no hook says that their snapshots are one instant".into()),
        source_unix_ms: Some(NOW - 7_290_000),
        strategy: Some("original-location".into()),
        resumed: true,
        window_bytes: Some(64 << 20),
        pass: Some(pass),
        ..DiskStatus::default()
    };
    DaemonStatus {
        daemon: "process-server".into(),
        version: "0.1.0".into(),
        started_unix_ms: NOW - 3_600_000,
        now_unix_ms: NOW,
        draining: false,
        memory: BudgetStatus { total_bytes: 128 << 20, granted_bytes: 64 << 20, running_disks: 1 },
        certificate: Some(CertificateStatus {
            identity: "failback://process-server/azure-1".into(),
            expires_unix_ms: NOW + 31_536_000_000,
            error: None,
        }),
        receipt_key: None,
        sessions: 1,
        errors: BTreeMap::from([("FB509".into(), 2)]),
        machines: vec![MachineStatus {
            pace: None,
            cycle: None,
            id: "web01".into(),
            wanted: Wanted::Running,
            peer: "mt.site-1.example:9443".into(),
            recovery: None,
            disks: vec![disk],
        }],
    }
}

pub(crate) fn events() -> Vec<Envelope> {
    let (m, d) = (|| "web01".to_string(), || "disk0".to_string());
    let all = vec![
        Event::DaemonStarted { daemon: "process-server".into(), version: "0.1.0".into() },
        Event::DaemonStopping { reason: "SIGTERM".into() },
        Event::ConfigReloaded { findings: Vec::new() },
        Event::CertificatesReloaded { expires_unix_ms: Some(NOW + 31_536_000_000), findings: Vec::new() },
        Event::MachineRegistered { machine: m() },
        Event::MachineReleased { machine: m() },
        Event::DiskRegistered { machine: m(), disk: d() },
        Event::DiskReleased { machine: m(), disk: d() },
        Event::Job {
            job: "job-17".into(),
            request: "reprotect".into(),
            machine: Some(m()),
            caller: Caller { uid: 0, gid: 0, pid: Some(4711) },
            outcome: "done".into(),
            findings: Vec::new(),
        },
        Event::SourceTaken {
            machine: m(),
            job: "job-17".into(),
            point_label: "crash-consistent".into(),
            point_reason: Some("before_snapshot ended with exit status: 1".into()),
            source_unix_ms: NOW - 40_000,
            findings: vec![
                (&Finding::warning(Code::QuiesceFailed, "before_snapshot ended with exit status: 1")).into(),
            ],
        },
        Event::SourceCompared {
            machine: m(),
            disk: d(),
            comparison: Comparison {
                how: How::Feed,
                base_cycle: Some(6),
                named_bytes: Some(212 << 20),
                checked_bytes: 16 << 20,
                finding: None,
            },
        },
        Event::CycleClosed {
            machine: m(),
            outcome: CycleOutcome {
                number: 7,
                began_unix_ms: NOW - 4_100,
                took_ms: 4_100,
                since_last_ms: Some(300_000),
                read_bytes: 228 << 20,
                shipped_bytes: 131 << 20,
            },
            said: "cycle 7: 131 MiB in 4.1 s; next in 5 min; final cycle would take about 6 s".into(),
            findings: Vec::new(),
        },
        Event::CycleFailed {
            machine: m(),
            number: 8,
            finding: (&Finding::error(Code::FinalFailed, "stop_source ended with exit status: 1")).into(),
        },
        Event::Connected { machine: m(), disk: d(), link: link() },
        Event::PassStarted {
            machine: m(),
            disk: d(),
            session: 12,
            epoch: NOW / 1000,
            strategy: "original-location".into(),
            resumed: true,
            window_bytes: 64 << 20,
            findings: Vec::new(),
        },
        Event::PassSealed {
            machine: m(),
            disk: d(),
            generation: 4,
            root: ROOT.into(),
            verified: true,
            point_label: Some("app-consistent".into()),
            point_reason: None,
            source_unix_ms: Some(NOW - 40_000),
            elapsed_seconds: 214.5,
            counters: BTreeMap::from([("bytes_to_target".into(), 1_312_475_648)]),
        },
        Event::PassInterrupted {
            machine: m(),
            disk: d(),
            finding: lost(),
            failed_tries: 1,
            next_try_unix_ms: Some(NOW + 800),
        },
        Event::PassFailed {
            machine: m(),
            disk: d(),
            finding: (&Finding::error(
                Code::WrongDisk,
                "64 of 64 sampled blocks of disk0 differ from the source's",
            ))
                .into(),
        },
        Event::PassStopped { machine: m(), disk: d() },
        Event::Verified { machine: m(), disk: d(), root: ROOT.into(), findings: Vec::new() },
        Event::MachineVerified {
            machine: m(),
            job: "job-20".into(),
            receipt: Some("/var/lib/failback/master-target/receipts/web01/receipt-3.json".into()),
            number: Some(3),
            findings: Vec::new(),
        },
        Event::PointRecorded {
            machine: m(),
            point: 17,
            label: "crash-consistent".into(),
            source_unix_ms: NOW - 60_000,
        },
        Event::PointsDropped {
            machine: m(),
            points: vec![3, 4],
            freed_bytes: 1 << 30,
            reason: "retention".into(),
        },
        Event::OperationStarted {
            machine: m(),
            job: "job-31".into(),
            verb: "cutover".into(),
            point: Some(17),
        },
        Event::OperationEnded {
            machine: m(),
            job: "job-31".into(),
            verb: "cutover".into(),
            point: Some(18),
            outcome: "done".into(),
            said: "web01: 2 disks are as in point 17 and released".into(),
            findings: Vec::new(),
        },
        Event::PeerRefused {
            address: None,
            peer: Some("failback://process-server/azure-2".into()),
            finding: (&Finding::error(
                Code::IdentityNotAllowed,
                "failback://process-server/azure-2 is not on the allow-list of web01",
            ))
                .into(),
        },
        Event::Missed { count: 12 },
    ];
    let number = |(at, event): (usize, Event)| {
        // What was missed has no number of its own.
        let seq = if event.name() == "missed" { 0 } else { at as u64 + 1 };
        Envelope { seq, time_unix_ms: NOW + at as u64, event }
    };
    all.into_iter().enumerate().map(number).collect()
}

/// A plan before bytes.
fn forecast() -> Forecast {
    let disk = DiskForecast {
        disk: "disk0".into(),
        source: "nbd+unix:///pit{cycle}?socket=/run/web01.nbd".into(),
        length_bytes: 64 << 30,
        target: "generation 7, sealed from cycle 4 of this source".into(),
        chunks_trusted: 1000,
        chunks_scanned: 4,
        chunks_absent: 20,
        trusted_why: Some(
            "their digests are those of the sealed state, and the feed does not name them".into(),
        ),
        scanned_why: "its feed names blocks in them".into(),
        read_bytes: 332 << 20,
        sampled_blocks: 256,
        sampled_changed_percent: Some(90),
        sampled_packed_percent: 50,
        ship_estimate_bytes: Some(150 << 20),
        ship_at_most_bytes: 640 << 20,
        undo_estimate_bytes: Some(270 << 20),
        undo_at_most_bytes: 64 << 30,
        findings: Vec::new(),
    };
    Forecast {
        machine: "web01".into(),
        disks: vec![disk],
        bandwidth_bytes_per_second: Some(20 << 20),
        assumed_read_bytes_per_second: 400 << 20,
    }
}
