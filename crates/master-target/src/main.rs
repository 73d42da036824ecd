//! The master target's own process.

use clap::Parser;
use failback_master_target::MasterTarget;
use failback_service::daemon;
use std::process::ExitCode;

/// Receives what differs from process servers and writes the target disks.
#[derive(Parser)]
#[command(
    name = "failback-master-target",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  failback-master-target --check-config
  failback-master-target --config /etc/failback/master-target.toml
  failback-master-target --config-reference

Runs in the foreground; SIGTERM stops it at the next durable group, SIGHUP reads certificates and
configuration again. 'failback status --socket /run/failback/master-target.sock' asks it what it does."
)]
struct Cli {
    #[command(flatten)]
    options: daemon::Options,
}

fn main() -> ExitCode {
    failback_blockio::forbid_core_dumps();
    daemon::main::<MasterTarget>(&Cli::parse().options)
}
