//! When a source was in the state that a pass brings, where nobody took a snapshot of it just for that.

use failback_blockio::{DiskError, Operation};
use failback_image::Image;
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

/// When the last of an image's files was written, milliseconds since 1970, but not after `now_unix_ms`: the image has been
/// as it is since then. A block device has no such time, and is as it is now.
pub fn source_unix_ms(image: &dyn Image, now_unix_ms: u64) -> Result<u64, DiskError> {
    let mut newest = None;
    for path in &image.identity().files {
        let failed = |error| DiskError::io(Operation::Open, path, None, error);
        let stat = fs::metadata(path).map_err(failed)?;
        if !stat.is_file() {
            return Ok(now_unix_ms);
        }
        let written = stat.modified().map_err(failed)?.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        newest = newest.max(Some(u64::try_from(written.as_millis()).unwrap_or(u64::MAX)));
    }
    Ok(newest.unwrap_or(now_unix_ms).min(now_unix_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_image::{Access, ImageSpec};
    use std::time::SystemTime;

    #[test]
    fn a_file_is_as_old_as_its_last_write_and_never_from_the_future() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk.raw");
        fs::write(&path, [7; 8192]).expect("written");
        let image = failback_image::open(&ImageSpec::parse(&path), Access::Read).expect("opened");
        let written = |time: SystemTime| {
            fs::File::options().write(true).open(&path).expect("opened").set_modified(time).expect("set");
            source_unix_ms(&*image, 9_000).expect("looked at")
        };
        assert_eq!(written(UNIX_EPOCH + Duration::from_millis(5_001)), 5_001);
        assert_eq!(written(UNIX_EPOCH + Duration::from_millis(9_001)), 9_000);
        assert_eq!(written(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
