//! A wrong command line, in the shape of every other error.

use crate::report::Voice;
use crate::summary::PassSummary;
use clap::error::ErrorKind;
use failback_model::{Code, ExitClass, Finding};
use std::ffi::{OsStr, OsString};

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
        _ => {
            let voice = Voice { command: command_of(&words()), json: json_was_asked(), quiet: false };
            let nothing = OsStr::new("");
            match voice.command {
                // Whoever reads a pass's fields finds them however it ends.
                "sync" | "image convert" => {
                    voice.finish("done", &PassSummary::not_started(nothing, nothing), &[finding(error)])
                }
                _ => voice.fail(&[finding(error)]),
            }
        }
    }
}

fn words() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

/// The command that was meant, by the first words that are one.
fn command_of(words: &[OsString]) -> &'static str {
    const COMMANDS: [&str; 16] = [
        "sync",
        "hash",
        "image",
        "reprotect",
        "status",
        "stop",
        "resume",
        "verify",
        "register",
        "release",
        "bandwidth",
        "reload",
        "events",
        "receipt",
        "completions",
        "man",
    ];
    const OF_IMAGE: [&str; 4] = ["image info", "image create", "image convert", "image check"];
    const OF_RECEIPT: [&str; 3] = ["receipt check", "receipt show", "receipt key"];
    let mut words = words.iter().filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let first = words.next().and_then(|word| COMMANDS.into_iter().find(|command| word == command));
    match first {
        Some(group @ ("image" | "receipt")) => {
            let second = words.next().and_then(|word| word.to_str()).unwrap_or_default();
            let mut both = OF_IMAGE.into_iter().chain(OF_RECEIPT);
            both.find(|command| *command == format!("{group} {second}")).unwrap_or(group)
        }
        Some(command) => command,
        None => "failback",
    }
}

/// The line could not be parsed, so whoever reads our output is told by the word alone.
fn json_was_asked() -> bool {
    words().iter().take_while(|word| *word != OsStr::new("--")).any(|word| word == OsStr::new("--json"))
}

fn finding(error: &clap::Error) -> Finding {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (evidence, _) = text.split_once("\n\nFor more information").unwrap_or((text, ""));
    Finding::error(Code::Usage, evidence.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_named_by_the_words_that_are_one() {
        for (line, command) in [
            ("sync --json a", "sync"),
            ("--json hash", "hash"),
            ("image convert a", "image convert"),
            ("image --json", "image"),
            ("image frobnicate", "image"),
            ("receipt check", "receipt check"),
            ("receipt info", "receipt"),
            ("snyc a b", "failback"),
            ("", "failback"),
        ] {
            let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(command_of(&words), command, "{line}");
        }
    }
}
