//! The command line of the commands that speak with a daemon.

use crate::args::OutputArgs;
use crate::plan_args::GoalArgs;
use clap::{Args, ValueHint};
use failback_model::{DiskId, JobId, MachineId};
use failback_service::period::Period;
use std::path::PathBuf;

/// Which daemon.
#[derive(Args)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct SocketArgs {
    /// Control socket of the daemon
    #[arg(long, value_name = "PATH", env = "FAILBACK_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/failback/process-server.sock", value_hint = ValueHint::FilePath)]
    pub(crate) socket: PathBuf,
}

/// A job of a daemon.
#[derive(Args)]
pub(crate) struct JobArgs {
    /// Id of the job: the same id again does nothing and gives the first outcome
    #[arg(id = "job", long, value_name = "ID")]
    pub(crate) id: Option<JobId>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback stop`, `failback resume`.
#[derive(Args)]
#[command(after_help = "\
A stopped machine stays stopped, also when the daemon is started anew, until it is resumed. What was
acknowledged is durable: the next pass goes on from there.

Examples:
  failback stop web01
  failback resume web01
  failback stop web01 --socket /run/failback/master-target.sock")]
pub(crate) struct OrderArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE", index = 1)]
    pub(crate) machine: MachineId,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// `failback reprotect`.
#[derive(Args)]
#[command(after_help = "\
Asks the process server to bring all disks of MACHINE home. It returns when the passes have begun:
'failback status --watch' follows them. Lost connections are tried again for ever. Whether a target
that is too short may grow is the master target's configuration: grow = true for the disk.

Examples:
  failback reprotect web01
  failback reprotect web01 --verify --yes --json
  failback reprotect web01 --accept-mismatch
  failback reprotect web01 --accept-divergence
  failback reprotect web01 --final
  failback reprotect web01 --finish-by 06:00 --max-egress 200G")]
pub(crate) struct ReprotectArgs {
    #[command(flatten)]
    pub(crate) order: OrderArgs,
    /// Read each target back from its medium before it counts as sealed
    #[arg(long)]
    pub(crate) verify: bool,
    /// Overwrite targets although they look like other disks
    #[arg(long)]
    pub(crate) accept_mismatch: bool,
    /// Bring targets to a state that is older than what they have
    #[arg(long)]
    pub(crate) accept_older: bool,
    /// Scan and overwrite targets although something else wrote to them since their last pass
    #[arg(long)]
    pub(crate) accept_divergence: bool,
    /// The source is off: what comes home is its last state
    #[arg(id = "final", long)]
    pub(crate) is_final: bool,
    /// Do not ask: the machine's target disks are overwritten
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
}

/// `failback cycle`.
#[derive(Args)]
#[command(after_help = "\
A machine that 'failback reprotect' brought home once is kept near its source by cycles: snapshot, feed,
read, ship, seal, retire the snapshot. The configuration's cycle_every begins them by the clock; this
command begins one now. With --final the hook stop_source stops the source and proves that it is off, and
nothing follows that cycle; where it fails, start_source starts the source again. The command returns when
that is noted: 'failback status --watch' and 'failback events' follow it.

Examples:
  failback cycle web01
  failback cycle web01 --final
  failback cycle web01 --final --yes --json")]
pub(crate) struct CycleArgs {
    #[command(flatten)]
    pub(crate) order: OrderArgs,
    /// The last cycle: the source is stopped for it
    #[arg(id = "final", long)]
    pub(crate) is_final: bool,
    /// Do not ask: the source is stopped
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `failback verify`.
#[derive(Args)]
#[command(after_help = "\
Ask the master target, which holds the disks: it reads the sealed disks back from their media,
compares roots, and signs a receipt for the machine if every disk is what was sealed. The outcome is
an event and stands in the status; --wait stays for it, and ending the command does not end the
reading. A process server refuses: its passes also write, and 'failback reprotect MACHINE --verify'
asks for one of those.

Examples:
  failback verify web01 --wait --socket /run/failback/master-target.sock
  failback verify web01 --wait --json --socket /run/failback/master-target.sock
  failback verify web01 --disk disk0 --socket /run/failback/master-target.sock")]
pub(crate) struct VerifyArgs {
    /// Only this disk; a master target signs no receipt then, unless it is the machine's only one
    #[arg(long, value_name = "DISK")]
    pub(crate) disk: Option<DiskId>,
    /// Wait until all was read, and print where the receipt lies; with --json also what it says
    #[arg(long, conflicts_with = "job")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

/// `failback status`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback status
  failback status web01 --watch
  failback status --json --socket /run/failback/master-target.sock
  failback status --check --lag-warning 30m --lag-critical 2h

Exit codes with --check, as monitoring plugins have them: 0 fine, 1 warning, 2 critical, 3 unknown.")]
pub(crate) struct StatusArgs {
    /// Only this machine
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: Option<MachineId>,
    /// Show it again and again; with --json, one line each time
    #[arg(long, short, conflicts_with = "check")]
    pub(crate) watch: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "watch", hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) every: u64,
    /// One line and an exit code for monitoring
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: warn when a sealed state is older than this: 90s, 30m, 2h or 1d
    #[arg(long, value_name = "TIME", requires = "check")]
    pub(crate) lag_warning: Option<Period>,
    /// With --check: critical when a sealed state is older than this
    #[arg(long, value_name = "TIME", requires = "check")]
    pub(crate) lag_critical: Option<Period>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
