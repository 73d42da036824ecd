//! The command line as a type. Everything that can be wrong about one value alone is found here; what depends on
//! disks is found by the commands.

use crate::control_args::{CycleArgs, OrderArgs, ReprotectArgs, StatusArgs, VerifyArgs};
use crate::journal_args::JournalCommand;
use crate::pki_args::PkiCommand;
use crate::plan_args::PlanArgs;
use crate::receipt_args::ReceiptCommand;
use crate::registry_args::{BandwidthArgs, EventsArgs, RegisterArgs, ReleaseArgs, ReloadArgs};
use crate::remote_args::RemoteArgs;
use crate::report::Voice;
use crate::values;
use crate::verb_args::{CancelArgs, CommitArgs, CutoverArgs, PointsCommand};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use failback_image::{AdapterType, DiskUuid, Provisioning, VmdkType};
use failback_pass::{Compression, Refinement};
use failback_service::size;
use std::ffi::OsString;
use std::path::PathBuf;

/// Brings disks home: compares two disks block by block, ships only what differs, proves the result.
#[derive(Parser)]
#[command(name = "failback", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Examples:
  failback sync azure-copy.vhd /mnt/nfs/web01/web01.vmdk
  failback sync --dry-run --json azure-copy.vhd /dev/sdb
  failback hash web01.vmdk
  failback image convert web01.vhd web01.vmdk
  failback reprotect web01 && failback status --watch

Images are named by path. The extension tells the format (.vmdk, .vhd, .vhdx, .raw, .img); a prefix
overrides it: vmdk:PATH, vhd:PATH, vhdx:PATH, raw:PATH, dev:PATH. A block device such as /dev/sdb
needs neither; dev: insists that it is one. VHDX and dynamic VHD are only read. New images get the
rights that the umask leaves. A source may also be an export of an NBD server, named by its URI:
nbd://HOST[:PORT]/EXPORT, nbds://… with TLS, nbd+unix:///EXPORT?socket=PATH. Sizes take K, M, G or T
(powers of 1024).

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 refused before anything was written,
4 failed on the way (run it again), 5 contents are wrong, 130 stopped by a signal (run it again)."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring DST to the bytes of SRC, shipping only what differs
    Sync(SyncArgs),
    /// Print the root of a disk: equal roots mean equal bytes, in any format
    Hash(HashArgs),
    /// Look at, make and convert disk images
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  failback image info web01.vmdk
  failback image create web01.vmdk 20G
  failback image convert web01.vhd web01.vmdk
  failback image check --json web01.vmdk")]
    Image(ImageCommand),
    /// Predict what the next passes of a machine read, ship, take and cost
    Plan(PlanArgs),
    /// Replicate a machine's disks home through the process server
    Reprotect(ReprotectArgs),
    /// Begin a machine's next cycle now, or its final one
    Cycle(CycleArgs),
    /// Show what a daemon does, how fast, and what limits it
    Status(StatusArgs),
    /// Stop a machine's passes at the next durable group
    Stop(OrderArgs),
    /// Go on with a stopped machine, or try again at once
    Resume(OrderArgs),
    /// Prove that a machine's target disks are what was sealed
    Verify(VerifyArgs),
    /// Recovery points of a machine at the master target
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  failback points list web01
  failback points show web01 17
  failback points verify web01
  failback points drop web01 3 4")]
    Points(PointsCommand),
    /// Bring a machine's disks to a recovery point and release them
    Cutover(CutoverArgs),
    /// Bring a machine's disks back to the original
    Cancel(CancelArgs),
    /// Make final what a machine was cut over to
    Commit(CommitArgs),
    /// Register a machine or a disk with a daemon, or replace its definition
    Register(RegisterArgs),
    /// Have a daemon forget a machine or a disk; no disk is touched
    Release(ReleaseArgs),
    /// Change a machine's bandwidth, also while it is at work
    Bandwidth(BandwidthArgs),
    /// Have a daemon read certificates and configuration again
    Reload(ReloadArgs),
    /// Follow what a daemon does
    Events(EventsArgs),
    /// Issue and revoke the daemons' certificates
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  failback pki init
  failback pki issue failback://master-target/site-1 --export /etc/failback/tls
  failback pki revoke failback://process-server/azure-1
  failback pki show")]
    Pki(PkiCommand),
    /// Check and show signed receipts of what was verified
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  failback verify web01 --wait --socket /run/failback/master-target.sock
  failback receipt show web01 --socket /run/failback/master-target.sock > web01-receipt.json
  failback receipt key --socket /run/failback/master-target.sock
  failback receipt check web01-receipt.json --key FINGERPRINT disk0=web01.vmdk")]
    Receipt(ReceiptCommand),
    /// Take back or make final what 'sync --journal' did
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "\
Examples:
  failback sync --journal /var/lib/failback/web01 azure-copy.vhd /dev/sdb
  failback journal show /var/lib/failback/web01
  failback journal undo /var/lib/failback/web01 /dev/sdb
  failback journal commit /var/lib/failback/web01")]
    Journal(JournalCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a folder
    Man(ManArgs),
}

/// How a command ends when a signal asks it to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenStopped {
    /// Cleanly, by itself.
    EndsItself,
    /// At once, as whoever watched wanted: nothing is left to finish.
    Watches,
    /// At once, with something left to finish.
    BreaksOff,
}

impl Command {
    /// How it speaks.
    pub(crate) fn voice(&self) -> Voice {
        Voice { command: self.name(), json: self.json(), quiet: false }
    }

    /// Its name as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync",
            Self::Hash(_) => "hash",
            Self::Image(ImageCommand::Info(_)) => "image info",
            Self::Image(ImageCommand::Create(_)) => "image create",
            Self::Image(ImageCommand::Convert(_)) => "image convert",
            Self::Image(ImageCommand::Check(_)) => "image check",
            Self::Reprotect(_) => "reprotect",
            Self::Cycle(_) => "cycle",
            Self::Plan(_) => "plan",
            Self::Status(_) => "status",
            Self::Stop(_) => "stop",
            Self::Resume(_) => "resume",
            Self::Verify(_) => "verify",
            Self::Points(command) => command.name(),
            Self::Cutover(_) => "cutover",
            Self::Cancel(_) => "cancel",
            Self::Commit(_) => "commit",
            Self::Register(_) => "register",
            Self::Release(_) => "release",
            Self::Bandwidth(_) => "bandwidth",
            Self::Reload(_) => "reload",
            Self::Events(_) => "events",
            Self::Pki(PkiCommand::Init(_)) => "pki init",
            Self::Pki(PkiCommand::Issue(_)) => "pki issue",
            Self::Pki(PkiCommand::Renew(_)) => "pki renew",
            Self::Pki(PkiCommand::Revoke(_)) => "pki revoke",
            Self::Pki(PkiCommand::Show(_)) => "pki show",
            Self::Receipt(command) => command.name(),
            Self::Journal(command) => command.name(),
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// What a signal asks of it.
    pub(crate) const fn when_stopped(&self) -> WhenStopped {
        match self {
            Self::Sync(_)
            | Self::Hash(_)
            | Self::Image(ImageCommand::Create(_) | ImageCommand::Convert(_))
            | Self::Receipt(ReceiptCommand::Check(_))
            | Self::Journal(JournalCommand::Undo(_)) => WhenStopped::EndsItself,
            Self::Events(_) => WhenStopped::Watches,
            Self::Status(args) if args.watch => WhenStopped::Watches,
            _ => WhenStopped::BreaksOff,
        }
    }

    /// Whether it was asked to speak JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Sync(args) => args.output.json,
            Self::Hash(args) => args.output.json,
            Self::Image(ImageCommand::Info(args)) => args.output.json,
            Self::Image(ImageCommand::Create(args)) => args.output.json,
            Self::Image(ImageCommand::Convert(args)) => args.output.json,
            Self::Image(ImageCommand::Check(args)) => args.output.json,
            Self::Reprotect(args) => args.order.job.output.json,
            Self::Cycle(args) => args.order.job.output.json,
            Self::Plan(args) => args.output.json,
            Self::Status(args) => args.output.json,
            Self::Stop(args) | Self::Resume(args) => args.job.output.json,
            Self::Verify(args) => args.order.job.output.json,
            Self::Points(command) => command.json(),
            Self::Cutover(args) => args.verb.output.json,
            Self::Cancel(args) => args.verb.output.json,
            Self::Commit(args) => args.verb.output.json,
            Self::Register(args) => args.job.output.json,
            Self::Release(args) => args.order.job.output.json,
            Self::Bandwidth(args) => args.order.job.output.json,
            Self::Reload(args) => args.job.output.json,
            Self::Events(args) => args.output.json,
            Self::Pki(command) => command.json(),
            Self::Receipt(command) => command.json(),
            Self::Journal(command) => command.json(),
            Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// Commands about one image.
#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// Show format, size, identity and provisioning of an image or device
    Info(InfoArgs),
    /// Make an empty image
    Create(CreateArgs),
    /// Copy a disk into a new image of another format, verified block by block
    Convert(ConvertArgs),
    /// Look through an image's own metadata for faults
    Check(CheckArgs),
}

/// `failback sync`.
#[derive(Args)]
#[command(after_help = "\
A DST that exists is brought to SRC's bytes in place (original-location recovery); one that does
not is created with SRC's length (alternate-location recovery). Ctrl-C ends cleanly; the same
command again finishes the job.

Examples:
  failback sync azure-copy.vhd web01.vmdk
  failback sync --dry-run azure-copy.vhd web01.vmdk
  failback sync --verify --json azure-copy.vhd /dev/sdb
  failback sync --vmdk-type monolithicSparse --seed template.vmdk azure-copy.vhd new.vmdk
  failback sync --target-identity failback://master-target/site-1 azure-copy.vhd mt://mt:9443/web01/disk0
  failback sync nbd://10.0.0.5/web01 web01.vmdk
  failback sync 'nbd+unix:///web01?socket=/run/web01.sock' web01.vmdk")]
pub(crate) struct SyncArgs {
    /// Disk that comes home: an image, a device or a source behind a network
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub(crate) source: OsString,
    /// Where it comes home to: an image, a device, an image that will be created, or a disk of a master target
    #[arg(value_name = "DST", value_hint = ValueHint::AnyPath)]
    pub(crate) target: OsString,
    /// Print what would be done, as far as hole maps and a sample of at most 128 blocks of each disk tell; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Extend DST if it is a raw file, a fixed VHD or a flat VMDK shorter than SRC
    #[arg(long)]
    pub(crate) grow: bool,
    /// Overwrite DST although it looks like another disk
    #[arg(long)]
    pub(crate) accept_mismatch: bool,
    /// Keep what DST held in this folder, so that 'failback journal undo' can bring it back; a pass that was cut off goes
    /// on from what is known here
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) journal: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) create: NewImageArgs,
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// `failback hash`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback hash web01.vmdk
  failback hash --manifest web01.manifest /dev/sdb
  failback hash --json --block-size 1M web01.vhd
  failback hash nbd://10.0.0.5/web01")]
pub(crate) struct HashArgs {
    /// Image, device or source behind a network to hash
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: OsString,
    /// Also write every block's digest into this file, which must not exist
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scan: ScanArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// `failback image info`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback image info web01.vmdk
  failback image info --json /dev/sdb
  failback image info 'nbds://10.0.0.5/web01?tls-certificates=/etc/failback/nbd'")]
pub(crate) struct InfoArgs {
    /// Image, device or source behind a network to look at
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: OsString,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback image create`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback image create web01.vmdk 20G
  failback image create --provisioning thin --vmdk-type monolithicSparse web01.vmdk 20G
  failback image create raw:web01.disk 512M")]
pub(crate) struct CreateArgs {
    /// Image to make; must not exist
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: OsString,
    /// Length of the disk
    #[arg(value_parser = size::parse)]
    pub(crate) size: u64,
    #[command(flatten)]
    pub(crate) create: NewImageArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback image convert`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback image convert web01.vhd web01.vmdk
  failback image convert --vmdk-type streamOptimized web01.raw web01-export.vmdk
  failback image convert --verify web01.vmdk raw:web01.disk")]
pub(crate) struct ConvertArgs {
    /// Image, device or source behind a network to copy
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub(crate) source: OsString,
    /// Image to make; must not exist
    #[arg(value_name = "DST", value_hint = ValueHint::AnyPath)]
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) create: NewImageArgs,
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// `failback image check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback image check web01.vmdk
  failback image check --json web01.vhd")]
pub(crate) struct CheckArgs {
    /// Image to look through
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) image: OsString,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback completions`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback completions bash > /etc/bash_completion.d/failback
  failback completions zsh > ~/.zfunc/_failback")]
pub(crate) struct CompletionsArgs {
    /// Shell to write for
    pub(crate) shell: Shell,
}

/// `failback man`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback man | man -l -
  failback man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write failback.1 and a page for every command into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// How a disk is read and hashed.
#[derive(Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct ScanArgs {
    /// Unit of comparison: a power of two from 16K to 1M
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = size::parse)]
    pub(crate) block_size: u64,
    /// Reader threads at each end, 1 to 64; the number of processors unless given
    #[arg(long, value_name = "N", value_parser = values::threads())]
    pub(crate) threads: Option<usize>,
}

/// How a pass works.
#[derive(Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct PassArgs {
    /// Re-read all of DST from its medium at the end and compare roots
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) scan: ScanArgs,
    /// Narrow blocks that differ to their 4 KiB pages: auto, on or off
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = values::refinement())]
    pub(crate) page_refinement: Refinement,
    /// Compress what ships: auto, off, or a zstd level from 1 to 22
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::compression)]
    pub(crate) compression: Compression,
    /// Disk whose blocks DST may copy instead of receiving them; may be repeated
    #[arg(long, value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub(crate) seed: Vec<OsString>,
}

/// What a created image is like.
#[derive(Args)]
#[command(next_help_heading = "New images")]
pub(crate) struct NewImageArgs {
    /// How a created image takes space: thin (unless given), thick (lazily zeroed) or eager (zeroed)
    #[arg(long, value_name = "HOW", value_parser = values::provisioning())]
    pub(crate) provisioning: Option<Provisioning>,
    /// Kind of a created VMDK; vmfs unless given
    #[arg(long, value_name = "KIND", ignore_case = true, value_parser = values::vmdk_type())]
    pub(crate) vmdk_type: Option<VmdkType>,
    /// Controller that a created VMDK is for: lsilogic (unless given), buslogic, ide or pvscsi
    #[arg(long, value_name = "KIND", ignore_case = true, value_parser = values::adapter_type())]
    pub(crate) adapter_type: Option<AdapterType>,
    /// Identity of a created VMDK or VHD: 16 bytes, as a UUID or as ESXi writes it; a fresh one unless given
    #[arg(long, value_name = "UUID", value_parser = values::uuid)]
    pub(crate) uuid: Option<DiskUuid>,
}

/// How a command speaks.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print one JSON object on one line of standard output instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a long command shows while it runs.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ProgressArgs {
    /// Print only what went wrong (and, for hash, the root)
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Show no progress
    #[arg(long)]
    pub(crate) no_progress: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        fn look(command: &clap::Command) {
            command.get_subcommands().for_each(look);
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  failback "), "{}", command.get_name());
        }
        Cli::command().debug_assert();
        look(&Cli::command());
    }
}
