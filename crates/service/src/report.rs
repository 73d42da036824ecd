//! Findings as text and as JSON, in the one shape that every command, reply, event and status shares.
//!
//! **Invariant**: no control character that came from a disk or a peer reaches a terminal or a log.

use failback_model::{Code, Finding, Place, Severity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;

/// A finding as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingLine {
    /// Stable code, such as `FB305`.
    pub code: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What the code means.
    pub title: String,
    /// What was seen.
    pub evidence: String,
    /// What to do.
    pub remedy: String,
    /// What was being done, such as `read`, where that is known.
    #[serde(default)]
    pub operation: Option<String>,
    /// On which file or device.
    #[serde(default)]
    pub path: Option<String>,
    /// Where in it, bytes from its start.
    #[serde(default)]
    pub offset_bytes: Option<u64>,
    /// Why, in words.
    #[serde(default)]
    pub reason: Option<String>,
}

impl From<&Finding> for FindingLine {
    fn from(finding: &Finding) -> Self {
        Self {
            code: finding.code.as_str().into(),
            severity: finding.severity.as_str().into(),
            title: finding.code.title().into(),
            evidence: finding.evidence.clone(),
            remedy: finding.remedy.clone(),
            operation: finding.place.operation.map(str::to_owned),
            path: finding.place.path.as_ref().map(|path| path.display().to_string()),
            offset_bytes: finding.place.offset_bytes,
            reason: finding.place.reason.clone(),
        }
    }
}

impl FindingLine {
    /// The finding it was made of; `None` where this release does not know its code.
    pub fn finding(&self) -> Option<Finding> {
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == self.code)?;
        let severity = match self.severity.as_str() {
            "info" => Severity::Info,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        };
        let place = Place {
            // A word of another process is none of this one's words.
            operation: None,
            path: self.path.as_ref().map(PathBuf::from),
            offset_bytes: self.offset_bytes,
            reason: self.reason.clone(),
        };
        let (evidence, remedy) = (self.evidence.clone(), self.remedy.clone());
        Some(Finding { code, severity, evidence, remedy, place: Box::new(place) })
    }
}

/// All findings as JSON.
pub fn finding_lines(findings: &[Finding]) -> Vec<FindingLine> {
    findings.iter().map(FindingLine::from).collect()
}

/// `error[FB305]: title`, the evidence, the remedy.
pub fn paragraph(finding: &Finding) -> String {
    let mut text =
        format!("{}[{}]: {}\n", finding.severity.as_str(), finding.code.as_str(), finding.code.title());
    for line in finding.evidence.lines().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "  {}", printable(line));
    }
    let _ = writeln!(text, "  remedy: {}", printable(&finding.remedy));
    text
}

/// Paths, names and words come from disks and peers: control characters are escaped.
pub fn printable(line: &str) -> String {
    line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_survives_its_json() {
        let finding = Finding::warning(Code::WrongDisk, "64 of 64 differ");
        assert_eq!(FindingLine::from(&finding).finding(), Some(finding.clone()));
        let unknown = FindingLine { code: "FB000".into(), ..FindingLine::from(&finding) };
        assert_eq!(unknown.finding(), None);
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = paragraph(&Finding::error(Code::ImageExtentEscapes, "\u{1b}[2Jx\nsecond line"));
        assert!(text.contains("\n  \\u{1b}[2Jx\n  second line\n  remedy: "), "{text}");
    }
}
