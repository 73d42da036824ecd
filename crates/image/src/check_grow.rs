//! Whether a disk can be extended, asked before anything is written.

use crate::raw::require_length;
use crate::{Image, ImageFormat};
use failback_blockio::{DiskError, Operation};
use failback_model::Code;

/// What to do about a disk that stays as long as it is.
pub(crate) const NEW_IMAGE: &str =
    "leave out --grow and sync into a new image, which gets the source's length";

/// Judges by the kind of image and the length alone.
pub(crate) fn by_kind<I: Image + ?Sized>(image: &I, length_bytes: u64) -> Result<(), DiskError> {
    let (path, format) = (image.name(), image.identity().format);
    let refuse = |code, reason: String| DiskError::new(code, Operation::Resize, path, reason);
    require_length(path, Operation::Resize, length_bytes)?;
    match format {
        ImageFormat::Raw
        | ImageFormat::VhdFixed
        | ImageFormat::VmdkVmfs
        | ImageFormat::VmdkMonolithicFlat
        | ImageFormat::VmdkTwoGbMaxExtentFlat => Ok(()),
        ImageFormat::Device => {
            let have_bytes = image.geometry().length_bytes;
            let reason = format!("it has {have_bytes} bytes, {length_bytes} are needed");
            Err(refuse(Code::TargetTooSmall, reason)
                .with_remedy("extend the device where it is provided, then run the same command again"))
        }
        ImageFormat::VhdDynamic
        | ImageFormat::Vhdx
        | ImageFormat::VmdkMonolithicSparse
        | ImageFormat::VmdkTwoGbMaxExtentSparse
        | ImageFormat::VmdkStreamOptimized
        | ImageFormat::Nbd
        | ImageFormat::PageBlob => {
            let reason = format!("a {} image keeps its size", format.as_str());
            Err(refuse(Code::ImageUnsupported, reason).with_remedy(NEW_IMAGE))
        }
    }
}
