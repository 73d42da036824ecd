//! The life of a daemon: options, configuration, log, state folder, sockets, ready, signals, drain, end.
//!
//! **Invariant**: systemd hears "ready" only once every socket is bound and earlier state is read; after the first
//! SIGTERM nothing new starts, and the process ends when every pass has closed its group, or after [`DRAIN_MAX`].
//!
//! [`DRAIN_MAX`]: failback_model::limits::DRAIN_MAX

mod kit;
mod run;

pub use kit::Kit;

use crate::config::{self, AdminAddress, ByteSize, Config, LogFormat, LogLevel};
use crate::control::Orders;
use crate::report::paragraph;
use failback_model::{ExitClass, Finding, Severity};
use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Options that every daemon takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the reference of the configuration as markdown, and end
    #[arg(long)]
    pub config_reference: bool,
    /// How lines of the log look
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// What the frame needs of a configuration.
#[derive(Debug, Clone)]
pub struct Base {
    /// Where state lies.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The admin port.
    pub admin: AdminAddress,
    /// Memory for contents under way.
    pub memory: ByteSize,
    /// How much is logged.
    pub log_level: LogLevel,
}

/// A daemon's configuration.
pub trait DaemonConfig: Config + Send {
    /// What the frame needs of it.
    fn base(&self) -> Base;
}

/// A daemon, as the frame runs it.
pub trait Daemon: Orders + Sized {
    /// `process-server` or `master-target`.
    const NAME: &'static str;
    /// Where its configuration lies unless told otherwise.
    const CONFIG: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// Its configuration.
    type Config: DaemonConfig;

    /// Reads earlier state, binds its sockets and starts to work; what it starts ends with [`Kit::stop`].
    fn open(config: Self::Config, kit: Kit) -> impl Future<Output = Result<Arc<Self>, Vec<Finding>>> + Send;

    /// Reads certificates and configuration again, and publishes what came of it.
    fn reload(&self);

    /// Returns once no pass is at work any more. Called after [`Kit::stop`] is cancelled.
    fn drained(&self) -> impl Future<Output = ()> + Send;
}

/// Runs a daemon, or what its options ask for instead.
pub fn main<D: Daemon>(options: &Options) -> ExitCode {
    let exit = carry_out::<D>(options).unwrap_or_else(|findings| {
        complain(&findings);
        gravest(&findings)
    });
    ExitCode::from(exit.code())
}

fn carry_out<D: Daemon>(options: &Options) -> Result<ExitClass, Vec<Finding>> {
    if options.config_reference {
        say(&config::reference::<D::Config>());
        return Ok(ExitClass::Success);
    }
    let path = options.config.clone().unwrap_or_else(|| D::CONFIG.into());
    let config: D::Config = config::load(&path)?;
    if options.check_config {
        say(&format!("{}: the configuration is valid\n", path.display()));
        return Ok(ExitClass::Success);
    }
    crate::logging::start(config.base().log_level, options.log_format);
    run::run::<D>(config, path)
}

/// A terminal or a pipe that went away is nobody's loss.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(findings: &[Finding]) {
    let text: String = findings.iter().map(paragraph).collect();
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn gravest(findings: &[Finding]) -> ExitClass {
    let error = findings.iter().find(|finding| finding.severity == Severity::Error);
    error.map_or(ExitClass::Failure, |finding| finding.code.exit())
}
