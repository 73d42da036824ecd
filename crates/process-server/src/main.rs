//! The process server's own process.

use clap::Parser;
use failback_process_server::ProcessServer;
use failback_service::daemon;
use std::process::ExitCode;

/// Reads source disks and sends what differs home, to a master target.
#[derive(Parser)]
#[command(
    name = "failback-process-server",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  failback-process-server --check-config
  failback-process-server --config /etc/failback/process-server.toml
  failback-process-server --config-reference

Runs in the foreground; SIGTERM stops it at the next durable group, SIGHUP reads certificates and
configuration again. 'failback status' asks it what it does."
)]
struct Cli {
    #[command(flatten)]
    options: daemon::Options,
}

fn main() -> ExitCode {
    failback_blockio::forbid_core_dumps();
    daemon::main::<ProcessServer>(&Cli::parse().options)
}
