//! Options that say nothing about the target at hand: each is named. An option that is silently ignored is a trap.

use crate::args::NewImageArgs;
use failback_image::{FormatName, ImageSpec};
use failback_model::{Code, Finding};
use std::ffi::OsStr;

/// What a target that exists does not become.
pub(crate) fn on_existing(target: &OsStr, create: &NewImageArgs) -> Option<Finding> {
    let has_any = create.provisioning.is_some()
        || create.vmdk_type.is_some()
        || create.adapter_type.is_some()
        || create.uuid.is_some();
    let evidence = format!("{} exists and stays as it is made", target.display());
    let remedy =
        "leave out --provisioning, --vmdk-type, --adapter-type and --uuid, which are for created images";
    has_any.then(|| Finding::warning(Code::Usage, evidence).with_remedy(remedy).about(target))
}

/// What the format of a target that will be made has no place for.
pub(crate) fn on_format(target: &ImageSpec, create: &NewImageArgs) -> Vec<Finding> {
    let Some(format) = target.format_by_name().filter(|&format| format != FormatName::Vmdk) else {
        return Vec::new();
    };
    let has_identity = format == FormatName::Vhd;
    let options = [
        create.vmdk_type.map(|kind| (format!("--vmdk-type {}", kind.as_str()), "name a .vmdk file")),
        create.adapter_type.map(|kind| (format!("--adapter-type {}", kind.as_str()), "name a .vmdk file")),
        create.uuid.filter(|_| !has_identity).map(|_| ("--uuid".into(), "name a .vmdk or .vhd file")),
    ];
    let path = target.path.display();
    let warning = |(option, instead): (String, &str)| {
        let evidence = format!("{option} says nothing about {path}, which is {}", format.prefix());
        let remedy = format!("leave it out, or {instead}");
        Finding::warning(Code::Usage, evidence).with_remedy(remedy).about(&target.path)
    };
    options.into_iter().flatten().map(warning).collect()
}
