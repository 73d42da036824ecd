//! The master target's configuration.

mod machine;
mod retention;

pub use machine::{Disk, Machine, ProvisioningWord, VmdkWord};
pub use retention::Retention;

use failback_model::limits::{BUDGET_DEFAULT_BYTES, THREADS_MAX};
use failback_service::config::{self, AdminAddress, ByteSize, Fault, Limits, LogLevel, TlsConfig};
use failback_service::daemon::{Base, DaemonConfig};
use failback_service::registry::faults_of;
use failback_service::text;
use failback_transport::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where process servers connect to: `IP:PORT`.
    #[serde(default = "listen", with = "text")]
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Folder of the daemon's own state: a journal for each machine, outcomes of jobs. On a medium of its own it slows
    /// the targets least.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Control socket; its folder is made if need be.
    #[serde(default = "control")]
    pub control: PathBuf,
    /// Where `/healthz` and `/metrics` are served over plain HTTP: `IP:PORT`, or `off`.
    #[serde(default = "admin", with = "text")]
    #[schemars(with = "String")]
    pub admin: AdminAddress,
    /// Memory for contents under way, all disks together: at least 8M for each disk that is to run at once.
    #[serde(default = "memory")]
    pub memory: ByteSize,
    /// How much is logged.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Bytes a second that this end sends to all peers together: digests above all. A rate, a schedule, or `unlimited`,
    /// as the process server's.
    #[serde(default = "Schedule::unlimited", with = "text")]
    #[schemars(with = "String")]
    pub bandwidth: Schedule,
    /// TCP congestion control, such as `bbr`; none: the system's own.
    #[serde(default)]
    pub congestion: Option<String>,
    /// Reader threads of each pass, 1 to 64; none: the number of processors.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Key that signs receipts: Ed25519, PKCS#8 in PEM. Unless given, one is made in the state folder at the first start,
    /// `receipt-key.pem`. A path may begin with `$CREDENTIALS_DIRECTORY/` as those of `tls`. Another key takes effect when the daemon is started anew.
    #[serde(default)]
    pub receipt_key: Option<PathBuf>,
    /// Folder for what is overwritten, so that it can be had back: best a volume of its own, as fast as the targets and
    /// with space for what changes between a recovery point and now. Made if need be; each machine has a folder of its id in it.
    /// None: a folder `undo` beside each machine's journal in the state folder. Not encrypted by us: docs/security.md.
    #[serde(default)]
    pub journal_dir: Option<PathBuf>,
    /// How long older recovery points stay in reach.
    #[serde(default)]
    pub retention: Retention,
    /// Bounds against peers that ask for too much.
    #[serde(default)]
    pub limits: Limits,
    /// This daemon's certificate, and whom it trusts. Read again on SIGHUP and by `reload`; files that cannot be used
    /// keep what was loaded before. A path that begins with `$CREDENTIALS_DIRECTORY/` lies where systemd's
    /// LoadCredential put it.
    pub tls: TlsConfig,
    /// A machine whose disks come home. More can be registered over the control socket.
    #[serde(default)]
    pub machine: Vec<Machine>,
}

fn listen() -> SocketAddr {
    ([0, 0, 0, 0], 9443).into()
}

fn state_dir() -> PathBuf {
    "/var/lib/failback/master-target".into()
}

fn control() -> PathBuf {
    "/run/failback/master-target.sock".into()
}

fn admin() -> AdminAddress {
    AdminAddress::On(([127, 0, 0, 1], 9444).into())
}

fn memory() -> ByteSize {
    ByteSize(BUDGET_DEFAULT_BYTES)
}

impl config::Config for Config {
    fn faults(&self) -> Vec<Fault> {
        let limits = self.limits.faults().into_iter().map(|fault| fault.within("limits"));
        let threads = self.threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)).map(|threads| {
            let remedy = format!("choose a number from 1 to {THREADS_MAX}");
            Fault::new("threads", format!("{threads} is not possible"), remedy)
        });
        let machines = faults_of(&self.machine);
        let retention = self.retention.faults().into_iter().map(|fault| fault.within("retention"));
        limits
            .chain(threads)
            .chain(retention)
            .chain(machines)
            .chain(machine::faults_between(&self.machine))
            .collect()
    }
}

impl DaemonConfig for Config {
    fn base(&self) -> Base {
        Base {
            state_dir: self.state_dir.clone(),
            control: self.control.clone(),
            admin: self.admin,
            memory: self.memory,
            log_level: self.log_level,
        }
    }
}
