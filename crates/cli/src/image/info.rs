//! `failback image info`: what an image or device is.

use crate::args::InfoArgs;
use crate::report::{Summary, Voice};
use crate::summary::table;
use crate::transfer::open_to_read;
use failback_image::Image;
use failback_model::{ExitClass, Finding};
use failback_service::size::human;
use serde::Serialize;

/// Everything an image says about itself.
#[derive(Serialize)]
pub(crate) struct InfoSummary {
    image: String,
    format: &'static str,
    virtual_size_bytes: u64,
    sector_size_bytes: u64,
    allocated_bytes: u64,
    provisioning: &'static str,
    uuid: Option<String>,
    content_id: Option<String>,
    adapter_type: Option<String>,
    files: Vec<String>,
}

impl InfoSummary {
    /// Asks the image.
    pub(crate) fn of(image: &dyn Image) -> Result<Self, Finding> {
        let (identity, geometry) = (image.identity(), image.geometry());
        Ok(Self {
            image: image.name().display().to_string(),
            format: identity.format.as_str(),
            virtual_size_bytes: geometry.length_bytes,
            sector_size_bytes: geometry.sector_size.bytes(),
            allocated_bytes: image.allocated_bytes().map_err(|error| error.to_finding())?,
            provisioning: image.provisioning().as_str(),
            uuid: identity.uuid,
            content_id: identity.content_id.map(|id| format!("{id:08x}")),
            adapter_type: identity.adapter_type,
            files: identity.files.iter().map(|path| path.display().to_string()).collect(),
        })
    }
}

impl Summary for InfoSummary {
    fn text(&self) -> String {
        let size = |bytes| format!("{} ({bytes} bytes)", human(bytes));
        let mut rows = vec![
            ("format", self.format.to_string()),
            ("virtual size", size(self.virtual_size_bytes)),
            ("sector size", self.sector_size_bytes.to_string()),
            ("allocated", size(self.allocated_bytes)),
            ("provisioning", self.provisioning.to_string()),
        ];
        let optional =
            [("uuid", &self.uuid), ("content id", &self.content_id), ("adapter", &self.adapter_type)];
        rows.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        rows.extend(self.files.iter().map(|file| ("file", file.clone())));
        table(&self.image, &rows)
    }
}

/// Runs the command.
pub(crate) fn run(args: &InfoArgs) -> ExitClass {
    let voice = Voice { command: "image info", json: args.output.json, quiet: false };
    match open_to_read(&args.image).and_then(|image| InfoSummary::of(&*image)) {
        Ok(summary) => voice.finish("done", &summary, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}
