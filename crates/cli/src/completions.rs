//! `failback completions`: a script that teaches a shell this command line.

use crate::args::{Cli, CompletionsArgs};
use crate::report::{Nothing, Voice, print, unheard};
use clap::CommandFactory;
use failback_model::ExitClass;

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> ExitClass {
    let voice = Voice { command: "completions", json: false, quiet: false };
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "failback", &mut script);
    match print(&String::from_utf8_lossy(&script)) {
        Ok(()) => voice.finish("done", &Nothing {}, &[]),
        Err(error) => voice.fail(&[unheard(&error)]),
    }
}
