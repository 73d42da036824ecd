//! `failback image convert`: a pass into a new image. What it does not finish it removes.

use crate::args::ConvertArgs;
use crate::report::Voice;
use crate::summary::PassSummary;
use crate::transfer::{Pass, Unfinished, collect, exists, open_to_read, pass_options};
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
    let target = ImageSpec::parse(&args.target);
    let options = pass_options(&args.pass, &mut findings);
    let source = collect(open_to_read(&args.source), &mut findings);
    if collect(exists(&target), &mut findings) == Some(true) {
        let remedy = "choose another path; 'failback sync' brings an image that exists to the source's bytes";
        let evidence = args.target.display().to_string();
        findings.push(Finding::error(Code::ImageExists, evidence).with_remedy(remedy));
    }
    let (Some(source), true) = (source, findings.is_empty()) else { return Err(findings) };
    let pass = Pass::prepare(source, options)?;
    let goal = pass.create(&target, &args.create)?;
    Ok(pass.carry_out(&goal, &args.progress, Unfinished::Remove))
}
