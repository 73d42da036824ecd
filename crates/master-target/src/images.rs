//! Images of the target's side: the disk that is written, and the seeds beside it.

use crate::config::{Disk, Machine, is_seed_allowed};
use failback_blockio::UnitSource;
use failback_image::{Access, Image, ImageSpec};
use failback_model::{Code, Finding};
use std::sync::Arc;

/// A target that is open.
pub struct OpenTarget {
    /// Its image, locked against other users.
    pub image: Arc<dyn Image>,
    /// Whether it was made just now and reads as zero.
    pub is_new: bool,
}

/// Opens a disk's image to be written, or makes it where its definition says so.
pub fn open_target(disk: &Disk, source_length_bytes: u64) -> Result<OpenTarget, Finding> {
    let spec = ImageSpec::parse(&disk.path);
    let exists = failback_image::exists(&spec).map_err(|error| error.to_finding())?;
    if !exists && !disk.create {
        let finding = Finding::error(Code::OpenFailed, format!("{} does not exist", disk.path));
        return Err(finding.with_remedy("check its path, or set create = true for a disk that is to be made"));
    }
    let opened = if exists {
        failback_image::open(&spec, Access::Write)
    } else {
        failback_image::create(&spec, &disk.create_options(source_length_bytes))
    };
    opened.map(|image| OpenTarget { image, is_new: !exists }).map_err(|error| error.to_finding())
}

/// A disk's seeds that can be read, and why others cannot: without a seed more travels, and no more.
pub fn open_seeds(
    registered: &[Machine],
    machine: &Machine,
    disk: &Disk,
) -> (Vec<Arc<dyn UnitSource>>, Vec<Finding>) {
    let (mut seeds, mut findings) = (Vec::new(), Vec::new());
    for seed in &disk.seeds {
        let unusable = |why: String| Finding::warning(Code::SeedUnusable, format!("{seed}: {why}"));
        if !is_seed_allowed(registered, machine, disk, seed) {
            findings.push(unusable("a registered disk of another seed_scope".into()));
            continue;
        }
        match failback_image::open(&ImageSpec::parse(seed), Access::Read) {
            Ok(image) => seeds.push(image as Arc<dyn UnitSource>),
            Err(error) => findings.push(unusable(error.to_finding().evidence)),
        }
    }
    (seeds, findings)
}
