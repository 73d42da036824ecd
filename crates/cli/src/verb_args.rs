//! The command line of the verbs that change what a site's disks are, all asked of the master target.

use crate::args::OutputArgs;
use crate::control_args::SocketArgs;
use clap::{Args, Subcommand, ValueHint};
use failback_model::{JobId, MachineId};
use failback_service::control::Wish;
use std::path::PathBuf;

/// The master target, which holds the disks.
#[derive(Args)]
#[command(next_help_heading = "Daemon")]
pub(crate) struct SiteArgs {
    /// Control socket of the master target
    #[arg(long, value_name = "PATH", env = "FAILBACK_SOCKET", hide_env_values = true)]
    #[arg(default_value = "/run/failback/master-target.sock", value_hint = ValueHint::FilePath)]
    socket: PathBuf,
}

impl SiteArgs {
    /// As every other command names its daemon.
    pub(crate) fn socket(&self) -> SocketArgs {
        SocketArgs { socket: self.socket.clone() }
    }
}

/// How a verb is asked for.
#[derive(Args)]
pub(crate) struct VerbArgs {
    /// Only show what it would do: direction, what is destroyed, the way back
    #[arg(long, conflicts_with_all = ["yes", "wait", "job"])]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Wait for the outcome; ending the command does not end what it waits for
    #[arg(long)]
    pub(crate) wait: bool,
    /// Id of the job: the same id again does nothing and gives the first outcome
    #[arg(id = "job", long, value_name = "ID", conflicts_with = "wait")]
    pub(crate) id: Option<JobId>,
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback cutover`.
#[derive(Args)]
#[command(after_help = "\
Brings all disks of MACHINE, or of every machine of GROUP, to a recovery point, reads them back from
their media, and releases them to the hypervisor. The source is not needed. What a pass left half
done is undone. Until 'failback commit' every other point stays in reach: cut over again, to an older
one or forward. Start the machine over an overlay (a snapshot) until then.

POINT is latest, app-consistent (of a group: the latest that all machines have), a number that
'failback points list' gives, or a time with its offset: the newest point that is no younger.

Examples:
  failback cutover web01 --point latest --dry-run
  failback cutover web01 --point 17 --wait
  failback cutover web01 --point 2026-11-24T13:30:00Z --yes --wait --json
  failback cutover shop --point app-consistent --wait")]
pub(crate) struct CutoverArgs {
    /// Machine or replication group, by its id
    #[arg(value_name = "MACHINE|GROUP")]
    pub(crate) of: MachineId,
    /// Recovery point
    #[arg(long, value_name = "POINT")]
    pub(crate) point: Wish,
    #[command(flatten)]
    pub(crate) verb: VerbArgs,
}

/// `failback cancel`.
#[derive(Args)]
#[command(after_help = "\
Brings all disks of MACHINE back to the original, as it was before the first pass, and removes the
images that its jobs made. Once released, all disks are read first: where something outside the
journal changed them, nothing is written and what changed is listed. Until 'failback commit' the
recovery points stay in reach of 'failback cutover'.

Examples:
  failback cancel web01 --dry-run
  failback cancel web01 --wait")]
pub(crate) struct CancelArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    #[command(flatten)]
    pub(crate) verb: VerbArgs,
}

/// `failback commit`.
#[derive(Args)]
#[command(after_help = "\
Makes final what MACHINE was cut over to: recovery points, the original and all undo are gone, thin
images give back what is zero. It cannot be taken back. It needs a receipt of what was cut over to,
taken before power-on: 'failback verify MACHINE --wait'.

Examples:
  failback commit web01 --dry-run
  failback commit web01 --wait
  failback commit web01 --without-receipt --yes")]
pub(crate) struct CommitArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Without a receipt that proves what is there
    #[arg(long)]
    pub(crate) without_receipt: bool,
    #[command(flatten)]
    pub(crate) verb: VerbArgs,
}

/// Commands about recovery points.
#[derive(Subcommand)]
pub(crate) enum PointsCommand {
    /// List a machine's recovery points
    List(PointsListArgs),
    /// Show one recovery point with its disks
    Show(PointsShowArgs),
    /// Read the disks back and compare them with the newest recovery point
    Verify(PointsVerifyArgs),
    /// Forget recovery points, never the newest
    Drop(PointsDropArgs),
}

impl PointsCommand {
    /// Its name as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "points list",
            Self::Show(_) => "points show",
            Self::Verify(_) => "points verify",
            Self::Drop(_) => "points drop",
        }
    }

    /// Whether it was asked to speak JSON.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::List(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Verify(args) => args.output.json,
            Self::Drop(args) => args.verb.output.json,
        }
    }
}

/// `failback points list`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback points list web01
  failback points list web01 --json")]
pub(crate) struct PointsListArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback points show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback points show web01 17
  failback points show web01 0 --json")]
pub(crate) struct PointsShowArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Number of the point
    #[arg(value_name = "NUMBER")]
    pub(crate) number: u64,
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback points verify`.
#[derive(Args)]
#[command(after_help = "\
What the disks hold is the newest point: it is read back from the media, compared with the point's
roots, and a receipt is signed. An older point can be proven once it was cut over to.

Examples:
  failback points verify web01
  failback points verify web01 17 --json")]
pub(crate) struct PointsVerifyArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Number of the point: the newest
    #[arg(value_name = "NUMBER")]
    pub(crate) number: Option<u64>,
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback points drop`.
#[derive(Args)]
#[command(after_help = "\
Nothing leads back to a point that was dropped. The newest is never dropped. Point 0 is the original:
without it nothing can be cancelled.

Examples:
  failback points drop web01 3 4 5
  failback points drop web01 0 --give-up-cancel --yes")]
pub(crate) struct PointsDropArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Numbers of the points
    #[arg(value_name = "NUMBER", required = true)]
    pub(crate) numbers: Vec<u64>,
    /// Also the original: nothing can be cancelled then
    #[arg(long)]
    pub(crate) give_up_cancel: bool,
    #[command(flatten)]
    pub(crate) verb: VerbArgs,
}
