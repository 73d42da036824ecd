//! VHDX through the library: a sketched file as it is, then with its checksums made right.

use crate::disk::explore;
use crate::sketch::sketched;
use ::vhdx::header::crc32c;
use failback_blockio::Device;
use failback_image::vhdx as image;
use failback_testkit::MemoryDevice;
use std::sync::Arc;

/// Headers and region tables: where they lie and how long they are, their CRC-32C being at byte 4.
const CHECKED: [(u64, usize); 4] =
    [(0x1_0000, 4096), (0x2_0000, 4096), (0x3_0000, 65_536), (0x4_0000, 65_536)];

/// Opens and reads.
pub fn vhdx(data: &[u8]) {
    let device = sketched(data);
    let repaired = device.duplicate();
    disk(device);
    repair(&repaired);
    disk(repaired);
}

fn disk(device: MemoryDevice) {
    if let Ok(image) = image::over(Arc::new(device)) {
        explore(image.as_ref());
    }
}

fn repair(device: &MemoryDevice) {
    for (at, length) in CHECKED {
        let mut bytes = vec![0; length];
        if Device::read_at(device, at, &mut bytes).is_err() {
            return;
        }
        bytes[4..8].fill(0);
        device.write_at(at + 4, &crc32c(&bytes).to_le_bytes()).expect("memory takes every write");
    }
}
