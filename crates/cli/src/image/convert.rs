//! `failback image convert`: a pass into a new image. What it does not finish it removes.

use crate::args::ConvertArgs;
use crate::report::Voice;
use crate::summary::PassSummary;
use crate::transfer::{Unfinished, carry_out, collect, create_new, open_to_read, pass_options};
use failback_image::ImageSpec;
use failback_model::{Code, ExitClass, Finding};

/// Runs the command.
pub(crate) fn run(args: &ConvertArgs) -> ExitClass {
    let voice = Voice { command: "image convert", json: args.output.json, quiet: args.progress.quiet };
    match convert(args) {
        Ok((summary, findings)) => voice.finish("done", &summary, &findings),
        Err(findings) => {
            voice.finish("done", &PassSummary::not_started(&args.source, &args.target), &findings)
        }
    }
}

fn convert(args: &ConvertArgs) -> Result<(PassSummary, Vec<Finding>), Vec<Finding>> {
    let mut findings = Vec::new();
    let options = pass_options(&args.pass, &mut findings);
    let source = collect(open_to_read(&args.source), &mut findings);
    let target = ImageSpec::parse(&args.target);
    if failback_image::exists(&target) {
        let remedy = "choose another path; 'failback sync' brings an image that exists to the source's bytes";
        let evidence = args.target.display().to_string();
        findings.push(Finding::error(Code::ImageExists, evidence).with_remedy(remedy));
    }
    let (Some(source), true) = (source, findings.is_empty()) else { return Err(findings) };
    let created = create_new(&source, &target, &args.create, &options)?;
    carry_out(source, created, &options, &args.progress, Unfinished::Remove)
}
