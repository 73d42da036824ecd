//! `failback image check`: an image's own metadata, fault by fault.

use crate::args::CheckArgs;
use crate::report::{Summary, Voice, printable};
use crate::size::counted;
use crate::transfer::open_to_read;
use failback_model::{ExitClass, Finding};
use serde::Serialize;

#[derive(Serialize)]
struct CheckSummary {
    image: String,
    format: &'static str,
    faults: u64,
}

impl Summary for CheckSummary {
    fn text(&self) -> String {
        format!("{}: {} ({})\n", printable(&self.image), counted(self.faults, "fault"), self.format)
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
    let image = open_to_read(&args.image)?;
    let findings = image.check().map_err(|error| error.to_finding())?;
    let image_name = image.name().display().to_string();
    let format = image.identity().format.as_str();
    Ok((CheckSummary { image: image_name, format, faults: findings.len() as u64 }, findings))
}
