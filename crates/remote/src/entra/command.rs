//! A command that makes a token.

use super::{Issued, Token, denied, issued};
use crate::command::{Bounds, output_of};
use crate::waits::Waits;
use failback_model::Finding;
use failback_model::limits::{HOOK_TIMEOUT_DEFAULT, TOKEN_FILE_MAX_BYTES, TOKEN_TIME_DEFAULT};
use std::process::Stdio;

/// Runs it; what it writes on its standard error goes where ours goes, what it writes on its output is shown to nobody.
pub(super) fn run(words: &[String]) -> Result<Issued, Finding> {
    let program = words.first().map_or("the command", String::as_str);
    let refuse = |why: String| denied(format!("{program}: it {why}"));
    let bounds = Bounds { bytes: TOKEN_FILE_MAX_BYTES, time: HOOK_TIMEOUT_DEFAULT, waits: &Waits::default() };
    let text = output_of(words, Stdio::inherit(), &bounds).map_err(refuse)?;
    let of_json = serde_json::from_str(&text).ok().and_then(|answer| issued(&answer));
    let of_line = || Token::of(&text).map(|token| Issued { token, lasts: TOKEN_TIME_DEFAULT });
    of_json.or_else(of_line).ok_or_else(|| refuse("wrote no token".into()))
}
