//! `failback image create`: an empty image.

use super::info::InfoSummary;
use crate::args::CreateArgs;
use crate::report::Voice;
use crate::transfer::{create_options, open_to_read};
use failback_image::ImageSpec;
use failback_model::{ExitClass, Finding};

/// Runs the command.
pub(crate) fn run(args: &CreateArgs) -> ExitClass {
    let voice = Voice { command: "image create", json: args.output.json, quiet: false };
    match create(args) {
        Ok(summary) => voice.finish("done", &summary, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}

fn create(args: &CreateArgs) -> Result<InfoSummary, Finding> {
    let image =
        failback_image::create(&ImageSpec::parse(&args.image), &create_options(&args.create, args.size))
            .map_err(|error| error.to_finding())?;
    image.close().map_err(|error| error.to_finding())?;
    drop(image);
    // What is reported is what the next command will find.
    InfoSummary::of(&*open_to_read(&args.image)?)
}
