//! `failback image create`: an empty image.

use super::info::InfoSummary;
use crate::args::CreateArgs;
use crate::report::{Voice, is_refused};
use crate::transfer::{create, create_options, open_to_read};
use crate::without_effect::on_format;
use failback_image::{ImageSpec, check_create};
use failback_model::{ExitClass, Finding};
use failback_pass::Cancel;

/// Runs the command.
pub(crate) fn run(args: &CreateArgs, cancel: &Cancel) -> ExitClass {
    let voice = Voice { command: "image create", json: args.output.json, quiet: false };
    let (spec, options) = (ImageSpec::parse(&args.image), create_options(&args.create, args.size));
    let mut findings = check_create(&spec, &options);
    findings.extend(on_format(&spec, &args.create));
    if is_refused(&findings) {
        return voice.fail(&findings);
    }
    let made =
        create(&spec, &options, cancel).and_then(|image| image.close().map_err(|error| error.to_finding()));
    // What is reported is what the next command will find.
    let made: Result<_, Finding> = made.and_then(|()| InfoSummary::of(&*open_to_read(&args.image)?));
    match made {
        Ok(summary) => voice.finish("done", &summary, &findings),
        Err(finding) => {
            findings.push(finding);
            voice.fail(&findings)
        }
    }
}
