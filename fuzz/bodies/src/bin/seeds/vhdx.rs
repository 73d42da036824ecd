//! A VHDX by hand, after "MS-VHDX": 3 MiB in blocks of 1 MiB, of which one is there.

use ::vhdx::header::crc32c;

const MIB: usize = 1 << 20;
const TABLE_AT: usize = 2 * MIB;
const METADATA_AT: usize = 3 * MIB;
const BLOCK_AT: usize = 4 * MIB;
/// Offset of the items from the metadata's start.
const ITEMS_AT: usize = 64 << 10;

const TABLE_GUID: &str = "6677c22d23f600429d64115e9bfd4a08";
const METADATA_GUID: &str = "06a27c8b90479a4bb8fe575f050f886e";
/// Item GUIDs with their values: file parameters (block size, flags), disk size, logical sector size.
const ITEMS: [(&str, &[u8]); 3] = [
    ("3767a1ca36fa434db3b633f0aa44e76b", &[0, 0, 0x10, 0, 0, 0, 0, 0]),
    ("2442a52f1bcd7648b2115dbed83bf4b8", &[0, 0, 0x30, 0, 0, 0, 0, 0]),
    ("1dbf41816fa90947ba47f233a8faab5f", &[0, 2, 0, 0]),
];

fn guid(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

pub(crate) fn sample() -> Vec<u8> {
    let mut file = vec![0; 5 * MIB];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"vhdxfile");
    for (number, header) in [0x1_0000, 0x2_0000].into_iter().enumerate() {
        put(header, b"head");
        put(header + 8, &(number as u64 + 1).to_le_bytes());
        put(header + 66, &1u16.to_le_bytes());
    }
    for table in [0x3_0000, 0x4_0000] {
        put(table, b"regi");
        put(table + 8, &2u32.to_le_bytes());
        for (number, (region, at)) in
            [(TABLE_GUID, TABLE_AT), (METADATA_GUID, METADATA_AT)].into_iter().enumerate()
        {
            let entry = table + 16 + number * 32;
            put(entry, &guid(region));
            put(entry + 16, &(at as u64).to_le_bytes());
            put(entry + 24, &(MIB as u32).to_le_bytes());
            put(entry + 28, &1u32.to_le_bytes());
        }
    }
    put(METADATA_AT, b"metadata");
    put(METADATA_AT + 10, &(ITEMS.len() as u16).to_le_bytes());
    let mut item_at = ITEMS_AT;
    for (number, (item, value)) in ITEMS.into_iter().enumerate() {
        let entry = METADATA_AT + 32 + number * 32;
        put(entry, &guid(item));
        put(entry + 16, &(item_at as u32).to_le_bytes());
        put(entry + 20, &(value.len() as u32).to_le_bytes());
        put(METADATA_AT + item_at, value);
        item_at += value.len();
    }
    // The second block is fully present; its place is in units of 1 MiB from bit 20.
    put(TABLE_AT + 8, &(BLOCK_AT as u64 | 6).to_le_bytes());
    put(BLOCK_AT, &[9; 700]);
    for (at, length) in [(0x1_0000, 4096), (0x2_0000, 4096), (0x3_0000, 65_536), (0x4_0000, 65_536)] {
        let sum = crc32c(&file[at..at + length]);
        file[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
    file
}
