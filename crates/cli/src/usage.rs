//! A wrong command line, in the shape of every other error.

use crate::report::Voice;
use clap::error::ErrorKind;
use failback_model::{Code, ExitClass, Finding};
use std::ffi::OsStr;

/// Prints help and version where they were asked for, else says what is wrong.
pub(crate) fn explain(error: &clap::Error) -> ExitClass {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // clap knows whether the terminal takes colours; print() would strip them.
            if error.print().is_ok() { ExitClass::Success } else { ExitClass::Failure }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitClass::Usage
        }
        _ => Voice { command: "failback", json: json_was_asked(), quiet: false }.fail(&[finding(error)]),
    }
}

/// The line could not be parsed, so whoever reads our output is told by the word alone.
fn json_was_asked() -> bool {
    std::env::args_os()
        .skip(1)
        .take_while(|word| word != OsStr::new("--"))
        .any(|word| word == OsStr::new("--json"))
}

fn finding(error: &clap::Error) -> Finding {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (evidence, _) = text.split_once("\n\nFor more information").unwrap_or((text, ""));
    Finding::error(Code::Usage, evidence.trim_end())
}
