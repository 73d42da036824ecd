//! Journals: the golden segment of FORMATS.md as it lies on a medium, cut off, and as records to be framed.

use crate::Seed;

/// The header, then the records, by line.
const GOLDEN: &str = include_str!("../../../../../crates/format/src/journal_record/golden.hex");
const RECORD_HEADER_BYTES: usize = 24;

pub(crate) fn seeds() -> Vec<Seed> {
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).expect("it is text");
        u8::from_str_radix(digits, 16).expect("it is hexadecimal")
    };
    let lines: Vec<Vec<u8>> =
        GOLDEN.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect();
    let raw = [&[0], lines.concat().as_slice()].concat();
    let script = |records: &[usize], checkpoint: u8| {
        let mut script = vec![1 + 3 * checkpoint];
        for record in records.iter().map(|&line| &lines[line]) {
            let length = u32::from_le_bytes(*record.first_chunk().expect("a header")) as usize;
            script.extend([record[4], record[6]]);
            script.extend((length as u16).to_le_bytes());
            script.extend(&record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length]);
        }
        script
    };
    vec![
        ("journal", "golden", raw.clone()),
        ("journal", "torn", raw[..raw.len() - 60].to_vec()),
        ("journal", "cut-checkpoint", raw[..400].to_vec()),
        ("journal", "records", script(&(1..lines.len()).collect::<Vec<_>>(), 2)),
        ("journal", "pass", script(&[3, 4, 7, 8, 9], 0)),
        ("journal", "composed", composed(2)),
        ("journal", "composed-anew", composed(0)),
        ("journal", "no-checkpoint", script(&[3, 12], 0)),
    ]
}

/// A pass in choices.
fn composed(checkpoint: u8) -> Vec<u8> {
    let choices: [[u8; 4]; 12] = [
        [0, 4, 6, 3],
        [10, 0, 3, 40],
        [0x01, 5, 6, 1],
        [0x03, 9, 10, 20],
        [0x02, 0, 40, 60],
        [0x04, 2, 10, 12],
        [0x05, 3, 10, 5],
        [0x01, 4, 9, 0],
        [0x0b, 0, 3, 2],
        [0x07, 8, 1, 0],
        [0x08, 1, 0, 0],
        [0x09, 0, 0, 0],
    ];
    [&[2 + 3 * checkpoint], choices.as_flattened()].concat()
}
