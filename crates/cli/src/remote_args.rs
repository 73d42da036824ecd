//! The part of `failback sync` that is about a target behind a network.

use clap::{Args, ValueHint};
use failback_model::PeerIdentity;
use failback_model::limits::{DATA_CONNECTIONS_DEFAULT, DATA_CONNECTIONS_MAX};
use failback_transport::Schedule;
use std::path::PathBuf;

/// How a master target is reached.
#[derive(Args)]
#[command(next_help_heading = "Targets named mt://HOST:PORT/MACHINE/DISK")]
pub(crate) struct RemoteArgs {
    /// Name that the master target's certificate must prove, such as failback://master-target/site-1
    #[arg(long, value_name = "IDENTITY")]
    pub(crate) target_identity: Option<PeerIdentity>,
    /// Folder with cert.pem, key.pem, ca.pem and, if there is one, crl.pem
    #[arg(long, value_name = "DIR", env = "FAILBACK_TLS", hide_env_values = true)]
    #[arg(default_value = "/etc/failback/tls", value_hint = ValueHint::DirPath)]
    pub(crate) tls: PathBuf,
    /// Data connections beside the control connection
    #[arg(long, value_name = "N", default_value_t = DATA_CONNECTIONS_DEFAULT as u16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=DATA_CONNECTIONS_MAX as i64))]
    pub(crate) connections: u16,
    /// Bytes a second: a rate such as 20M, or a schedule such as 08:00-18:00=5M,18:00-08:00=100M
    #[arg(long, value_name = "RATE")]
    pub(crate) bandwidth: Option<Schedule>,
    /// TCP congestion control, such as bbr
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Bring the target to a state that is older than what it has
    #[arg(long)]
    pub(crate) accept_older: bool,
    /// Scan and overwrite the target although something else wrote to it since its last pass
    #[arg(long)]
    pub(crate) accept_divergence: bool,
}
