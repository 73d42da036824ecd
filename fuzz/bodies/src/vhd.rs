//! VHD: a sketched file as it is, then with its checksums made right, so that the fields behind them are reached.

use crate::disk::{explore, rewrite};
use crate::sketch::sketched;
use failback_blockio::Device;
use failback_format::vhd::{
    ChsGeometry, DYNAMIC_HEADER_BYTES, DynamicHeader, FOOTER_BYTES, VhdFooter, VhdKind,
};
use failback_image::{Access, vhd as image};
use failback_testkit::MemoryDevice;
use std::sync::Arc;

const FOOTER_SUM_AT: usize = 64;
const HEADER_SUM_AT: usize = 36;
const DATA_OFFSET_AT: usize = 16;

/// Opens, reads, and if it is a fixed disk, writes and grows.
pub fn vhd(data: &[u8]) {
    let device = sketched(data);
    disk(device.duplicate());
    repair(&device);
    disk(device);
}

fn disk(device: MemoryDevice) {
    let device = Arc::new(device);
    footer(&device);
    let Ok(image) = image::over(device.clone(), Access::Read) else { return };
    explore(image.as_ref());
    let reopen = || image::over(device.clone(), Access::Write);
    let Ok(image) = reopen() else { return };
    rewrite(image.as_ref(), reopen);
    let Ok(image) = reopen() else { return };
    let old_bytes = image.geometry().length_bytes;
    if image.grow(old_bytes + 1024).is_ok() {
        let again = reopen().unwrap_or_else(|error| panic!("an image that was grown: {error}"));
        assert_eq!(again.geometry().length_bytes, old_bytes + 1024);
        let mut added = [1; 1024];
        again.read_at(old_bytes, &mut added).expect("what was added reads");
        assert_eq!(added, [0; 1024]);
    }
}

fn footer(device: &MemoryDevice) {
    let Some(bytes) = read(device, device.length_bytes().checked_sub(FOOTER_BYTES), FOOTER_BYTES) else {
        return;
    };
    let Ok(footer) = VhdFooter::decode(&bytes) else { return };
    assert_eq!(footer.as_bytes()[..], bytes);
    let length = footer.length_bytes();
    let again = footer.with_length(length).expect("a length that was decoded");
    assert_eq!(VhdFooter::decode(again.as_bytes()), Ok(again.clone()));
    assert_eq!((again.length_bytes(), again.kind()), (length, footer.kind()));
    let geometry = ChsGeometry::of_sectors(length / 512);
    assert!(again.geometry() == geometry && geometry.sectors() <= length / 512);
    let header_at = (footer.kind() == VhdKind::Dynamic).then(|| footer.data_offset_bytes());
    let Some(bytes) = read(device, header_at, DYNAMIC_HEADER_BYTES) else { return };
    let file_bytes = device.length_bytes();
    if let Ok(header) = DynamicHeader::decode(&bytes, length, file_bytes) {
        assert_eq!(DynamicHeader::decode(&header.encode(), length, file_bytes), Ok(header));
    }
}

/// Makes the checksums of both footers and of the header that they name right.
fn repair(device: &MemoryDevice) {
    let tail_at = device.length_bytes().checked_sub(FOOTER_BYTES);
    let tail = read(device, tail_at, FOOTER_BYTES);
    let header_at =
        tail.map(|tail| u64::from_be_bytes(*tail[DATA_OFFSET_AT..].first_chunk().expect("8 of 512")));
    let parts = [
        (tail_at, FOOTER_BYTES, FOOTER_SUM_AT),
        (Some(0), FOOTER_BYTES, FOOTER_SUM_AT),
        (header_at, DYNAMIC_HEADER_BYTES, HEADER_SUM_AT),
    ];
    for (at, length, sum_at) in parts {
        let (Some(at), Some(mut bytes)) = (at, read(device, at, length)) else { continue };
        // The first sector of a fixed disk is the guest's.
        if at == 0 && !VhdFooter::has_cookie(&bytes) {
            continue;
        }
        bytes[sum_at..sum_at + 4].fill(0);
        let sum = !bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        device.write_at(at + sum_at as u64, &sum.to_be_bytes()).expect("memory takes every write");
    }
}

/// Bytes of the device; `None` where there are not so many.
fn read(device: &MemoryDevice, at: Option<u64>, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    Device::read_at(device, at?, &mut bytes).ok()?;
    Some(bytes)
}
