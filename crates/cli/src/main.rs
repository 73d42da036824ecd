//! The `failback` command: parses the command line, calls one command, ends with its exit code.
//!
//! **Invariant**: only this crate prints; every way out has a code of [`ExitClass`].

mod args;
mod completions;
mod confirm;
mod control;
mod control_args;
mod draft;
mod hash;
mod image;
mod job;
mod journal;
mod journal_args;
mod man;
mod pace;
mod pki;
mod pki_args;
mod plan_args;
mod plan_summary;
mod progress;
mod protection;
mod receipt;
mod receipt_args;
mod registry_args;
mod remote;
mod remote_args;
mod report;
mod signals;
mod summary;
mod sync;
mod transfer;
mod usage;
mod values;
mod verb_args;
mod without_effect;

use args::{Cli, Command, ImageCommand};
use clap::Parser;
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use std::process::ExitCode;
use verb_args::PointsCommand;

fn main() -> ExitCode {
    failback_blockio::raise_open_files_limit();
    failback_blockio::forbid_core_dumps();
    let exit = match Cli::try_parse() {
        // A panic is our bug: its text is on standard error already, the exit code must still be one of ours.
        Ok(cli) => std::panic::catch_unwind(|| start(&cli.command)).unwrap_or_else(|_| {
            let finding = Finding::error(Code::Internal, "the command broke off; see the text above");
            cli.command.voice().fail(&[finding])
        }),
        Err(error) => usage::explain(&error),
    };
    ExitCode::from(exit.code())
}

fn start(command: &Command) -> ExitClass {
    match signals::listen(command.voice(), command.when_stopped()) {
        Ok(cancel) => run(command, &cancel),
        Err(finding) => command.voice().fail(&[finding]),
    }
}

fn run(command: &Command, cancel: &Cancel) -> ExitClass {
    match command {
        Command::Sync(args) if remote::is_remote(&args.target) => remote::run(args, cancel),
        Command::Sync(args) => sync::run(args, cancel),
        Command::Hash(args) => hash::run(args, cancel),
        Command::Image(ImageCommand::Info(args)) => image::info::run(args),
        Command::Image(ImageCommand::Create(args)) => image::create::run(args, cancel),
        Command::Image(ImageCommand::Convert(args)) => image::convert::run(args, cancel),
        Command::Image(ImageCommand::Check(args)) => image::check::run(args),
        Command::Reprotect(args) => control::orders::reprotect(args),
        Command::Cycle(args) => control::orders::cycle(args),
        Command::Plan(args) => control::forecast::run(args),
        Command::Status(args) => control::status::run(args),
        Command::Stop(args) => control::orders::stop(args),
        Command::Resume(args) => control::orders::resume(args),
        Command::Verify(args) => control::verify::run(args),
        Command::Points(PointsCommand::List(args)) => control::points::list_points(args),
        Command::Points(PointsCommand::Show(args)) => control::points::show(args),
        Command::Points(PointsCommand::Verify(args)) => control::points::verify_point(args),
        Command::Points(PointsCommand::Drop(args)) => control::verbs::drop_points(args),
        Command::Cutover(args) => control::verbs::cutover(args),
        Command::Cancel(args) => control::verbs::cancel(args),
        Command::Commit(args) => control::verbs::commit(args),
        Command::Register(args) => control::registry::register(args),
        Command::Release(args) => control::registry::release(args),
        Command::Bandwidth(args) => control::registry::bandwidth(args),
        Command::Reload(args) => control::registry::reload(args),
        Command::Events(args) => control::events::run(args),
        Command::Pki(command) => pki::run(command),
        Command::Receipt(command) => receipt::run(command, cancel),
        Command::Journal(command) => journal::run(command, cancel),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
