//! Looking through an image for damage, also where the damage forbids to open it.
//!
//! **Invariant**: an image that is damaged ends in findings and never in an error: errors are for what could not be
//! looked at.

use crate::{Access, ImageFormat, ImageSpec, open, vmdk};
use failback_blockio::DiskError;
use failback_model::{Code, Finding};

/// What to do about an image that does not even open.
const GOOD_COPY: &str = "restore the image from a good copy; no sync can write into it as it is";

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// The image's kind, where it could be opened.
    pub format: Option<ImageFormat>,
    /// Every fault, and what is only worth knowing.
    pub findings: Vec<Finding>,
}

/// Looks through an image's own metadata, as far as it can be understood.
pub fn check(spec: &ImageSpec) -> Result<Checked, DiskError> {
    let image = match open(spec, Access::Read) {
        Ok(image) => image,
        Err(error) if is_damage(&error) => {
            return Ok(Checked { format: None, findings: survey(spec, &error) });
        }
        Err(error) => return Err(error),
    };
    let format = Some(image.identity().format);
    match image.check() {
        Ok(findings) => Ok(Checked { format, findings: findings.into_iter().map(advised).collect() }),
        Err(error) if is_damage(&error) => Ok(Checked { format, findings: vec![fault(&error)] }),
        Err(error) => Err(error),
    }
}

fn is_damage(error: &DiskError) -> bool {
    error.code == Code::ImageDamaged
}

/// What opening met first, and everything else that can be looked at without it.
fn survey(spec: &ImageSpec, first: &DiskError) -> Vec<Finding> {
    let mut findings = vec![fault(first)];
    for error in vmdk::survey(&spec.path) {
        let found = fault(&error);
        // Opening stops at the first fault that the survey meets again, perhaps in other words.
        let is_same = |known: &Finding| {
            (&known.place.path, known.place.offset_bytes) == (&found.place.path, found.place.offset_bytes)
        };
        if !findings.iter().any(is_same) {
            findings.push(found);
        }
    }
    findings
}

/// Whoever checks an image need not be told to check it.
fn advised(finding: Finding) -> Finding {
    match finding.code {
        Code::ImageUnclean => {
            finding.with_remedy("sync into it: every block is compared, and it is closed cleanly")
        }
        _ => finding,
    }
}

/// A fault that forbids to open the image.
fn fault(error: &DiskError) -> Finding {
    let finding = error.to_finding();
    Finding { code: Code::ImageCheck, ..finding }.with_remedy(GOOD_COPY)
}
