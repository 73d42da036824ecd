//! `failback image check`: an image's own metadata, fault by fault.

use crate::args::CheckArgs;
use crate::report::{Summary, Voice};
use failback_image::{Checked, ImageSpec};
use failback_model::{ExitClass, Finding, Severity};
use failback_service::report::printable;
use failback_service::size::counted;
use serde::Serialize;

#[derive(Serialize)]
struct CheckSummary {
    image: String,
    /// Nothing where the damage forbids to open it.
    format: Option<&'static str>,
    faults: u64,
    warnings: u64,
}

impl CheckSummary {
    fn new(spec: &ImageSpec, checked: &Checked) -> Self {
        let count = |severity| checked.findings.iter().filter(|finding| finding.severity == severity).count();
        Self {
            image: spec.path.display().to_string(),
            format: checked.format.map(|format| format.as_str()),
            faults: count(Severity::Error) as u64,
            warnings: count(Severity::Warning) as u64,
        }
    }
}

impl Summary for CheckSummary {
    fn text(&self) -> String {
        let image = printable(&self.image);
        let (faults, warnings) = (counted(self.faults, "fault"), counted(self.warnings, "warning"));
        let format = self.format.unwrap_or("it does not open");
        format!("{image}: {faults}, {warnings} ({format})\n")
    }
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> ExitClass {
    let voice = Voice { command: "image check", json: args.output.json, quiet: false };
    match check(args) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(finding) => voice.fail(&[finding]),
    }
}

fn check(args: &CheckArgs) -> Result<(CheckSummary, Vec<Finding>), Finding> {
    let spec = ImageSpec::parse(&args.image);
    let checked = failback_image::check(&spec).map_err(|error| error.to_finding())?;
    Ok((CheckSummary::new(&spec, &checked), checked.findings))
}
