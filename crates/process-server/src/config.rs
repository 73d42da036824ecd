//! The process server's configuration.

mod azure;
mod machine;

pub use azure::Azure;
pub(crate) use azure::managed;
pub use machine::{CompressionWord, Disk, Machine};

use failback_model::limits::BUDGET_DEFAULT_BYTES;
use failback_service::config::{self, AdminAddress, ByteSize, Fault, LogLevel, TlsConfig};
use failback_service::daemon::{Base, DaemonConfig};
use failback_service::registry::faults_of;
use failback_service::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the daemon's own state: which machines replicate, what was scanned, outcomes of jobs.
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
    /// This daemon's certificate, and whom it trusts. Read again on SIGHUP and by `reload`; files that cannot be used
    /// keep what was loaded before. A path that begins with `$CREDENTIALS_DIRECTORY/` lies where systemd's
    /// LoadCredential put it.
    pub tls: TlsConfig,
    /// Azure's management, which machines with managed disks (`azdisk:`) need.
    #[serde(default)]
    pub azure: Option<Azure>,
    /// A machine whose disks come home. More can be registered over the control socket.
    #[serde(default)]
    pub machine: Vec<Machine>,
}

fn state_dir() -> PathBuf {
    "/var/lib/failback/process-server".into()
}

fn control() -> PathBuf {
    "/run/failback/process-server.sock".into()
}

fn admin() -> AdminAddress {
    AdminAddress::On(([127, 0, 0, 1], 9445).into())
}

fn memory() -> ByteSize {
    ByteSize(BUDGET_DEFAULT_BYTES)
}

impl config::Config for Config {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = faults_of(&self.machine);
        let azure = self.azure.iter().flat_map(Azure::faults);
        faults.extend(azure.map(|fault| fault.within("azure")));
        if self.azure.is_none()
            && let Some(machine) = self.machine.iter().find(|machine| machine.is_managed())
        {
            let reason = format!("{} has managed disks, and nothing says how Azure is asked", machine.id);
            faults.push(Fault::new("azure", reason, "add [azure] with token_file or token_command"));
        }
        faults
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
