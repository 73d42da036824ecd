//! Asks before what cannot be taken back.
//!
//! **Invariant**: without a terminal nobody is asked, and nothing is done without `--yes`.

use crate::report::warn;
use failback_model::{Code, Finding};
use std::io::{self, IsTerminal as _};

/// Returns where the answer is yes, or was given beforehand.
pub(crate) fn confirm(question: &str, is_given: bool) -> Result<(), Finding> {
    if is_given {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Finding::error(Code::NotConfirmed, format!("{question} Nobody is there to ask")));
    }
    warn(&format!("{question} [y/N] "));
    let mut answer = String::new();
    // Whoever cannot be heard has not said yes.
    let heard = io::stdin().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" if heard.is_ok() => Ok(()),
        _ => Err(Finding::error(Code::NotConfirmed, format!("{question} The answer was not yes"))),
    }
}
