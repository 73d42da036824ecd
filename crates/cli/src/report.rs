//! How every command ends: one summary, all findings, one exit code, with the same content as text and as JSON.
//!
//! **Invariant**: with `--json` exactly one line in this shape goes to standard output when the command ends; what is
//! watched gives one at each look, and what is followed an event a line before it.

use failback_model::{Code, ExitClass, Finding, Severity};
use failback_service::report::{FindingLine, paragraph};
use serde::Serialize;
use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;
use std::thread::ThreadId;

/// Who ends the command: the command itself, or the thread that hears signals.
static SPEAKER: OnceLock<ThreadId> = OnceLock::new();

/// What a command found out.
pub(crate) trait Summary: Serialize {
    /// For people; empty where there is nothing to say (a pass that did not finish).
    fn text(&self) -> String;

    /// Whether the command wrote to a disk: then nothing was "refused before anything was written".
    fn has_written(&self) -> bool {
        false
    }
}

/// A summary of nothing, for commands that only succeed or fail.
#[derive(Serialize)]
pub(crate) struct Nothing {}

impl Summary for Nothing {
    fn text(&self) -> String {
        String::new()
    }
}

/// How to speak.
#[derive(Clone, Copy)]
pub(crate) struct Voice {
    /// Which command speaks.
    pub(crate) command: &'static str,
    /// One JSON object instead of text.
    pub(crate) json: bool,
    /// Only what went wrong.
    pub(crate) quiet: bool,
}

#[derive(Serialize)]
struct Envelope<'a, S> {
    command: &'static str,
    status: &'static str,
    exit_code: u8,
    version: &'static str,
    findings: Vec<FindingLine>,
    #[serde(flatten)]
    summary: &'a S,
}

impl Voice {
    /// Whether the calling thread is the one that says how the command ended; the first that asks is.
    pub(crate) fn claim(self) -> bool {
        *SPEAKER.get_or_init(|| std::thread::current().id()) == std::thread::current().id()
    }

    /// Says how the command ended; `done` is the status of success. Gives the exit code's class.
    pub(crate) fn finish(
        self,
        done: &'static str,
        summary: &impl Summary,
        findings: &[Finding],
    ) -> ExitClass {
        while !self.claim() {
            // A signal ends the process at this very moment and says so.
            std::thread::park();
        }
        let exit = exit_class(findings, summary.has_written());
        let said = if self.json {
            print(&self.line(done, summary, findings))
        } else {
            let findings = gravest_first(findings);
            let loud = |finding: &&Finding| !self.quiet || finding.severity == Severity::Error;
            let shown: String = findings.into_iter().filter(loud).map(paragraph).collect();
            warn(&shown);
            let text = if self.quiet { String::new() } else { summary.text() };
            // Where there is nothing to say, nobody waits for a reader.
            if text.is_empty() { Ok(()) } else { print(&text) }
        };
        match said {
            Ok(()) => exit,
            Err(error) => {
                let finding = unheard(&error);
                warn(&paragraph(&finding));
                worse(exit, finding.code.exit())
            }
        }
    }

    /// The line that says it with `--json`.
    pub(crate) fn line(self, done: &'static str, summary: &impl Summary, findings: &[Finding]) -> String {
        let exit = exit_class(findings, summary.has_written());
        let status = match exit {
            ExitClass::Success => done,
            ExitClass::Usage | ExitClass::Refused => "refused",
            ExitClass::Signal => "interrupted",
            ExitClass::Failure | ExitClass::Interrupted | ExitClass::Mismatch => "failed",
        };
        json(self.command, status, exit, summary, &gravest_first(findings))
    }

    /// Says that the command did not get as far as a summary.
    pub(crate) fn fail(self, findings: &[Finding]) -> ExitClass {
        self.finish("failed", &Nothing {}, findings)
    }

    /// Says, where JSON was asked for, that whoever watched has seen enough: no fault, and nothing for people.
    pub(crate) fn stop_watching(self) {
        if self.json {
            // It ends whether anybody hears that or not.
            let _ = print(&json(self.command, "interrupted", ExitClass::Signal, &Nothing {}, &[]));
        }
    }
}

fn gravest_first(findings: &[Finding]) -> Vec<&Finding> {
    let mut findings: Vec<_> = findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn json(
    command: &'static str,
    status: &'static str,
    exit: ExitClass,
    summary: &impl Summary,
    findings: &[&Finding],
) -> String {
    let envelope = Envelope {
        command,
        status,
        exit_code: exit.code(),
        version: env!("CARGO_PKG_VERSION"),
        findings: findings.iter().map(|&finding| FindingLine::from(finding)).collect(),
        summary,
    };
    let mut text = serde_json::to_string(&envelope).expect("summaries have string keys and finite numbers");
    text.push('\n');
    text
}

/// Whether an error is among the findings.
pub(crate) fn is_refused(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// The exit code's class of the gravest error; success where there is none.
fn exit_class(findings: &[Finding], has_written: bool) -> ExitClass {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let exit = errors.map(|finding| finding.code.exit()).fold(ExitClass::Success, worse);
    if has_written && exit == ExitClass::Refused { ExitClass::Interrupted } else { exit }
}

fn worse(a: ExitClass, b: ExitClass) -> ExitClass {
    const LIGHT_TO_GRAVE: [ExitClass; 7] = [
        ExitClass::Success,
        ExitClass::Signal,
        ExitClass::Usage,
        ExitClass::Refused,
        ExitClass::Interrupted,
        ExitClass::Mismatch,
        ExitClass::Failure,
    ];
    let weight = |class| LIGHT_TO_GRAVE.iter().position(|&other| other == class);
    if weight(a) < weight(b) { b } else { a }
}

/// Writes to standard output. A reader that went away (`| head`) is not a failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Standard output failed.
pub(crate) fn unheard(error: &io::Error) -> Finding {
    let evidence = format!("cannot write to standard output: {error}");
    Finding::error(Code::WriteFailed, evidence)
        .with_remedy("check where it leads to, then run the same command again")
}

/// Writes to standard error, the last place to complain: if that fails, nobody is left to tell.
pub(crate) fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_error_decides_and_warnings_do_not_count() {
        let error = |code| Finding::error(code, "x");
        assert_eq!(exit_class(&[], true), ExitClass::Success);
        assert_eq!(exit_class(&[Finding::warning(Code::WrongDisk, "x")], false), ExitClass::Success);
        let both = [error(Code::BlockSizeInvalid), error(Code::OpenFailed)];
        assert_eq!(exit_class(&both, false), ExitClass::Refused);
        let both = [error(Code::Cancelled), error(Code::FlushFailed)];
        assert_eq!(exit_class(&both, true), ExitClass::Interrupted);
    }

    #[test]
    fn nothing_is_called_refused_after_a_write() {
        let late = [Finding::error(Code::OpenFailed, "reopening")];
        assert_eq!(exit_class(&late, false), ExitClass::Refused);
        assert_eq!(exit_class(&late, true), ExitClass::Interrupted);
    }

    #[test]
    fn text_and_json_have_the_same_content_and_no_control_characters() {
        let finding = Finding::error(Code::ImageExtentEscapes, "\u{1b}[2J../../etc/passwd\nsecond line");
        insta::assert_snapshot!(paragraph(&finding), @r"
        error[FB106]: VMDK names an extent outside its own folder
          \u{1b}[2J../../etc/passwd
          second line
          remedy: do not trust this descriptor; extents must lie beside it
        ");
        let line = json("sync", "refused", ExitClass::Refused, &Nothing {}, &[&finding]);
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&object["exit_code"], &object["status"]), (&3.into(), &"refused".into()));
        assert_eq!(object["findings"][0]["title"], finding.code.title());
        assert_eq!(object["findings"][0]["evidence"], finding.evidence.as_str());
        assert!(line.find('\u{1b}').is_none() && line.ends_with("}\n") && line.matches('\n').count() == 1);
    }
}
