//! `failback image check`: an image's own metadata, fault by fault.

use crate::args::CheckArgs;
use crate::report::{Summary, Voice};
use crate::transfer::open_to_read;
use failback_model::{ExitClass, Finding};
use serde::Serialize;

#[derive(Serialize)]
struct CheckSummary {
    image: String,
    format: &'static str,
    faults: usize,
}

impl Summary for CheckSummary {
    fn text(&self) -> String {
        match self.faults {
            0 => format!("{}: no faults ({})\n", self.image, self.format),
            1 => format!("{}: 1 fault ({})\n", self.image, self.format),
            faults => format!("{}: {faults} faults ({})\n", self.image, self.format),
        }
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
    Ok((CheckSummary { image: image_name, format, faults: findings.len() }, findings))
}
