//! The command line of `failback journal`.

use crate::args::{OutputArgs, ProgressArgs};
use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// Commands about the journal of a one-shot `sync --journal`.
#[derive(Subcommand)]
pub(crate) enum JournalCommand {
    /// Show the states that a journal leads back to
    Show(ShowJournalArgs),
    /// Bring a target back to what it was: the original, or an earlier pass
    Undo(UndoArgs),
    /// Make final what the target is; its journal is emptied
    Commit(CommitJournalArgs),
}

impl JournalCommand {
    /// Its name as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Show(_) => "journal show",
            Self::Undo(_) => "journal undo",
            Self::Commit(_) => "journal commit",
        }
    }

    /// Whether it was asked to speak JSON.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Show(args) => args.output.json,
            Self::Undo(args) => args.output.json,
            Self::Commit(args) => args.output.json,
        }
    }
}

/// `failback journal show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback journal show /var/lib/failback/web01
  failback journal show --json /var/lib/failback/web01")]
pub(crate) struct ShowJournalArgs {
    /// Folder that 'sync --journal' was given
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback journal undo`.
#[derive(Args)]
#[command(after_help = "\
No source is needed. A pass that was cut off is undone first. What is undone is kept as one more
state: 'failback journal undo --to N' also goes forward again. Killed, the same command finishes it.

Examples:
  failback journal undo /var/lib/failback/web01 /dev/sdb
  failback journal undo --to 2 --yes /var/lib/failback/web01 web01.vmdk")]
pub(crate) struct UndoArgs {
    /// Folder that 'sync --journal' was given
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// The target of those passes
    #[arg(value_name = "DST", value_hint = ValueHint::AnyPath)]
    pub(crate) target: OsString,
    /// State to go to, as 'failback journal show' numbers them; 0 is the original
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) to: u64,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// `failback journal commit`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback journal commit /var/lib/failback/web01
  failback journal commit --yes --json /var/lib/failback/web01")]
pub(crate) struct CommitJournalArgs {
    /// Folder that 'sync --journal' was given
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
