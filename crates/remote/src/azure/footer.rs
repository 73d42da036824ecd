//! What a blob's first and last bytes say of the disk in it.
//!
//! Azure keeps a disk as a fixed VHD: the disk, then a footer of 512 bytes. Other page blobs are the disk itself.

use failback_format::vhd::{ChsGeometry, FOOTER_BYTES, SECTOR_BYTES, VhdFooter, VhdKind};

/// First bytes of a VHDX.
const VHDX_SIGNATURE: &[u8] = b"vhdxfile";

/// Length of the disk in a blob of `blob_bytes`, by its first and its last 512 bytes; else why it holds no disk for us.
pub(super) fn disk_length(first: &[u8], last: &[u8], blob_bytes: u64) -> Result<u64, String> {
    if first.starts_with(VHDX_SIGNATURE) {
        return Err("it is a VHDX, as disks of 4096-byte sectors are exported".into());
    }
    if !VhdFooter::has_cookie(last) {
        return match VhdFooter::has_cookie(first) {
            true => Err("it is a dynamic VHD".into()),
            false => Ok(blob_bytes),
        };
    }
    let footer = VhdFooter::decode(last).map_err(|error| format!("its VHD footer is damaged: {error}"))?;
    let length_bytes = blob_bytes - FOOTER_BYTES;
    if footer.kind() != VhdKind::Fixed {
        return Err(format!("its VHD footer is that of a {:?} disk", footer.kind()).to_lowercase());
    }
    if footer.length_bytes() != length_bytes {
        let named = footer.length_bytes();
        return Err(format!(
            "its VHD footer is of a disk of {named} bytes, in front of it are {length_bytes}"
        ));
    }
    // Programs round differently; more sectors than cylinders of the largest size can explain are of another disk.
    let (expected, named) = (ChsGeometry::of_sectors(length_bytes / SECTOR_BYTES), footer.geometry());
    let cylinder = u64::from(named.heads) * u64::from(named.sectors_per_track);
    if named.sectors() > expected.sectors() + 2 * cylinder.max(1) {
        return Err(format!("the geometry in its VHD footer is of a disk of {} sectors", named.sectors()));
    }
    Ok(length_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 64 << 20;

    #[test]
    fn a_footer_is_left_out_of_the_disk_and_a_blob_without_is_the_disk() {
        let footer = VhdFooter::new_fixed(DISK, [7; 16], 1).expect("a footer");
        assert_eq!(disk_length(&[0; 512], footer.as_bytes(), DISK + 512), Ok(DISK));
        assert_eq!(disk_length(&[0; 512], &[0; 512], DISK), Ok(DISK));
    }

    #[test]
    fn what_holds_another_disk_is_refused() {
        let footer = VhdFooter::new_fixed(DISK, [7; 16], 1).expect("a footer");
        let refused =
            |first: &[u8], last: &[u8], length| disk_length(first, last, length).expect_err("refused");
        assert!(refused(&[0; 512], footer.as_bytes(), DISK + 1024).contains("in front of it"));
        let mut damaged = *footer.as_bytes();
        damaged[60] ^= 1;
        assert!(refused(&[0; 512], &damaged, DISK + 512).contains("checksum"));
        assert!(refused(b"vhdxfile", &[0; 512], DISK).contains("4096-byte"));
        assert!(refused(footer.as_bytes(), &[0; 512], DISK).contains("dynamic"));
        let mut long = *footer.as_bytes();
        long[56..60].copy_from_slice(&[0xff, 0xff, 16, 255]);
        let sum: u32 = long
            .iter()
            .enumerate()
            .filter(|(at, _)| !(64..68).contains(at))
            .map(|(_, &b)| u32::from(b))
            .sum();
        long[64..68].copy_from_slice(&(!sum).to_be_bytes());
        assert!(refused(&[0; 512], &long, DISK + 512).contains("geometry"));
    }
}
