//! A file in few bytes: its length and the runs that are not zero. So images of megabytes, or of terabytes, are
//! inputs that a fuzzer can still change in the right place.
//!
//! Length in sectors (4 bytes), then runs: first sector (4), bytes (2), the bytes; little endian. A run that does
//! not fit the length lengthens the file; one that is cut off is as long as what is left.

use failback_blockio::Device;
use failback_model::is_zero;
use failback_testkit::MemoryDevice;

const SECTOR: u64 = 512;
/// The longest run whose bytes two bytes can count.
const RUN_MAX_SECTORS: usize = u16::MAX as usize / SECTOR as usize;

/// The file that the bytes sketch.
pub fn sketched(bytes: &[u8]) -> MemoryDevice {
    let Some((length, mut rest)) = bytes.split_first_chunk() else { return MemoryDevice::new(0) };
    let device = MemoryDevice::new(u64::from(u32::from_le_bytes(*length)) * SECTOR);
    while let Some((head, behind)) = rest.split_first_chunk::<6>() {
        let [a, b, c, d, low, high] = *head;
        let count = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (run, next) = behind.split_at(count);
        let at = u64::from(u32::from_le_bytes([a, b, c, d])) * SECTOR;
        device.write_at(at, run).expect("memory takes every write");
        rest = next;
    }
    device
}

/// The sketch of a file whose length is whole sectors.
pub fn sketch_of(file: &[u8]) -> Vec<u8> {
    let (sectors, rest) = file.as_chunks::<{ SECTOR as usize }>();
    assert!(rest.is_empty(), "a sketch counts sectors");
    let number = |sectors: usize| u32::try_from(sectors).expect("seeds are small").to_le_bytes();
    let is_data = |sector: &[u8; SECTOR as usize]| !is_zero(sector);
    let mut sketch = number(sectors.len()).to_vec();
    let mut at = 0;
    while let Some(skip) = sectors[at..].iter().position(is_data) {
        let start = at + skip;
        let count =
            sectors[start..].iter().take(RUN_MAX_SECTORS).take_while(|sector| is_data(sector)).count();
        let run = sectors[start..start + count].as_flattened();
        let end = run.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        sketch.extend(number(start));
        sketch.extend((end as u16).to_le_bytes());
        sketch.extend(&run[..end]);
        at = start + count;
    }
    sketch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_from_its_sketch() {
        let mut file = vec![0; 300 * 512];
        for (at, length) in [(0, 3), (700, 1), (1023, 2), (5000, 70_000), (299 * 512 + 500, 12)] {
            file[at..at + length].fill(7);
        }
        file[1400] = 1;
        let sketch = sketch_of(&file);
        assert!(sketched(&sketch).to_bytes() == file);
        assert!(sketch.len() < 73_000, "{} bytes", sketch.len());
        assert_eq!(sketched(&sketch_of(&[0; 1024])).to_bytes(), [0; 1024]);
    }
}
