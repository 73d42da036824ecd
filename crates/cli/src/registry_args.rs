//! The command line of the commands that change how a daemon works: its machines, its bandwidth, what it has read.

use crate::args::OutputArgs;
use crate::control_args::{JobArgs, OrderArgs, SocketArgs};
use clap::{Args, ValueHint};
use failback_model::{DiskId, MachineId};
use failback_transport::Schedule;
use std::path::PathBuf;

/// `failback register`.
#[derive(Args)]
#[command(after_help = "\
FILE is TOML with the keys of [[machine]] in docs/config.md, with or without that line above them,
or one JSON object with the same keys. With --disk-of it has the keys of [[machine.disk]]. What is
registered stays registered when the daemon starts anew; registering again replaces the
definition, which is refused while a pass of the machine runs.

Examples:
  failback register web01.toml
  failback register --disk-of web01 disk1.toml
  echo '{\"id\":\"disk1\",\"path\":\"/dev/sdc\"}' |
    failback register --disk-of web01 - --socket /run/failback/master-target.sock")]
pub(crate) struct RegisterArgs {
    /// Definition of the machine or disk; - reads standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// It defines a disk of this machine
    #[arg(long, value_name = "MACHINE")]
    pub(crate) disk_of: Option<MachineId>,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// `failback release`.
#[derive(Args)]
#[command(after_help = "\
The daemon forgets the machine, or one disk of it; no disk is touched. Refused while a pass of it
runs or waits for its next try: stop it first.

Examples:
  failback release web01 --yes
  failback release web01 --disk disk1
  failback release web01 --socket /run/failback/master-target.sock")]
pub(crate) struct ReleaseArgs {
    /// Only this disk
    #[arg(long, value_name = "DISK")]
    pub(crate) disk: Option<DiskId>,
    /// Do not ask: the daemon forgets the machine with all its disks
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

/// `failback bandwidth`.
#[derive(Args)]
#[command(after_help = "\
It counts at once, also for a pass that runs, until the daemon starts anew or the machine is
released. RATE is bytes a second, a schedule by the daemon's local time, or unlimited. At a master
target there is one limit for what it sends to all machines together, whichever is named.

Examples:
  failback bandwidth web01 20M
  failback bandwidth web01 08:00-18:00=5M,18:00-08:00=100M
  failback bandwidth web01 --configured")]
pub(crate) struct BandwidthArgs {
    /// Bytes a second: 20M, a schedule, or unlimited
    #[arg(value_name = "RATE", index = 2, required_unless_present = "configured")]
    pub(crate) schedule: Option<Schedule>,
    /// What the configuration says
    #[arg(long, conflicts_with = "schedule")]
    pub(crate) configured: bool,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

/// `failback reload`.
#[derive(Args)]
#[command(after_help = "\
The same as SIGHUP, and it says what is wrong. Certificates, machines and bandwidth are read again;
what cannot be used leaves the old ones in force. Other settings that have changed are named: they
count once the daemon starts anew.

Examples:
  failback reload
  failback reload --json --socket /run/failback/master-target.sock")]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// `failback events`.
#[derive(Args)]
#[command(after_help = "\
Follows the daemon until it ends (exit code 1) or the command is stopped (130). With --json one
event a line, as docs/control.md shows them, and a last line that says how the command ended.

Examples:
  failback events
  failback events web01 --since 0
  failback events --json --since 0 --count 1 --socket /run/failback/master-target.sock")]
pub(crate) struct EventsArgs {
    /// Only this machine's, and those of no machine
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: Option<MachineId>,
    /// First the kept ones with a larger number; 0: all that are kept
    #[arg(long, value_name = "NUMBER")]
    pub(crate) since: Option<u64>,
    /// End after so many
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<usize>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
