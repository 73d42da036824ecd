//! A command that makes a token.

use super::{Issued, Token, denied, issued};
use failback_model::Finding;
use failback_model::limits::{HOOK_TIMEOUT_DEFAULT, TOKEN_FILE_MAX_BYTES, TOKEN_TIME_DEFAULT};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// Runs it; what it writes on its standard error goes where ours goes, what it writes on its output is shown to nobody.
pub(super) fn run(words: &[String]) -> Result<Issued, Finding> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(denied("the command is empty".into()));
    };
    let refuse = |why: String| denied(format!("{program}: {why}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| refuse(error.to_string()))?;
    let text = output(&mut child);
    if text.is_none() {
        let _gone = child.kill();
    }
    let status = child.wait().map_err(|error| refuse(error.to_string()))?;
    let text =
        text.ok_or_else(|| refuse(format!("it wrote no token within {} s", HOOK_TIMEOUT_DEFAULT.as_secs())))?;
    if !status.success() {
        return Err(refuse(status.to_string()));
    }
    let of_json = serde_json::from_str(&text).ok().and_then(|answer| issued(&answer));
    let of_line = || Token::of(&text).map(|token| Issued { token, lasts: TOKEN_TIME_DEFAULT });
    of_json.or_else(of_line).ok_or_else(|| refuse("it wrote no token".into()))
}

/// All it writes, within a time.
fn output(child: &mut Child) -> Option<String> {
    let mut pipe = child.stdout.take()?.take(TOKEN_FILE_MAX_BYTES);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        if pipe.read_to_string(&mut text).is_ok() {
            // Nobody waits any more where it took too long.
            let _late = send.send(text);
        }
    });
    receive.recv_timeout(HOOK_TIMEOUT_DEFAULT).ok()
}
