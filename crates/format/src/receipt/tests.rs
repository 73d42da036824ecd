//! The file as it was on the day it was defined, and what hostile hands make of it.

use super::*;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("golden.json");

fn receipt() -> Receipt {
    Receipt {
        version: RECEIPT_VERSION,
        machine: "web01".parse().expect("an id"),
        number: 2,
        previous: Some(Digest([0x5a; 32])),
        point: Some(17),
        issued_unix_ms: 1_795_507_200_250,
        product_version: "0.1.0".into(),
        disks: vec![ReceiptDisk {
            id: "disk0".parse().expect("an id"),
            image: "/mnt/nfs/web01/\"w\u{e9}b\"\n01.vmdk".into(),
            format: "vmfs".into(),
            image_bytes: 2_097_152,
            length_bytes: 1_052_672,
            block_size_bytes: 65_536,
            generation: 3,
            epoch: 1_795_507_100,
            root: Digest([0xc4; 32]),
            bytes_read: 983_040,
            read: ReceiptRead::CacheDropped,
            started_unix_ms: 1_795_507_199_000,
            finished_unix_ms: 1_795_507_200_000,
        }],
    }
}

fn signed(payload: String) -> SignedReceipt {
    SignedReceipt { public_key: [7; 32], payload, signature: [9; 64] }
}

#[test]
fn the_file_is_as_it_was_defined() {
    let file = signed(receipt().payload()).encode();
    assert_eq!(file, GOLDEN);
    assert_eq!(SignedReceipt::decode(GOLDEN.as_bytes()), Ok((signed(receipt().payload()), receipt())));
    let bytes = signed_bytes("{}");
    assert_eq!(bytes, b"failback receipt 2\0{}");
    assert_eq!(parse_digest(&fingerprint(&[7; 32]).to_string()), Some(fingerprint(&[7; 32])));
}

#[test]
fn every_change_of_a_byte_is_refused_or_changes_what_is_signed() {
    let before = signed(receipt().payload());
    for at in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut file = GOLDEN.as_bytes().to_vec();
            file[at] ^= 1 << bit;
            if let Ok((after, _)) = SignedReceipt::decode(&file) {
                let is_signature = after.signature != before.signature;
                assert!(is_signature || after.payload != before.payload, "byte {at}, bit {bit}");
                assert_eq!(after.public_key, before.public_key, "the fingerprint follows from it");
            }
        }
    }
}

#[test]
fn what_is_cut_longer_or_laid_out_anew_is_refused() {
    for length in 0..GOLDEN.len() {
        SignedReceipt::decode(&GOLDEN.as_bytes()[..length]).expect_err("it is cut");
    }
    let compact: serde_json::Value = serde_json::from_str(GOLDEN).expect("JSON");
    for other in [
        GOLDEN.to_owned() + "\n",
        GOLDEN.to_owned() + GOLDEN,
        format!("\u{feff}{GOLDEN}"),
        GOLDEN.replace('\n', "\r\n"),
        compact.to_string(),
        GOLDEN.replace("\"payload\"", "\"more\": 1,\n  \"payload\""),
        GOLDEN.replace("0707", "07\\u00307"),
    ] {
        SignedReceipt::decode(other.as_bytes()).expect_err("it is not as it was written");
    }
    let newer = GOLDEN.replace("\"failback_receipt\": 2", "\"failback_receipt\": 3");
    let error = SignedReceipt::decode(newer.as_bytes()).expect_err("a version of later");
    assert!(error.reason.contains("version 3 signed with ed25519"), "{error}");
    SignedReceipt::decode(&vec![b' '; RECEIPT_MAX_BYTES as usize + 1]).expect_err("too long");
    SignedReceipt::decode("[".repeat(100_000).as_bytes()).expect_err("too deep");
}

#[test]
fn payloads_that_no_master_target_writes_are_refused() {
    type Change = fn(&mut Receipt);
    let changes: [(&str, Change); 12] = [
        ("version", |receipt| receipt.version = 3),
        ("number 0", |receipt| receipt.number = 0),
        ("the first has none before it", |receipt| receipt.number = 1),
        ("the second has one", |receipt| receipt.previous = None),
        ("no disk", |receipt| receipt.disks.clear()),
        ("a disk twice", |receipt| receipt.disks.push(receipt.disks[0].clone())),
        ("too many", |receipt| {
            let disk = receipt.disks[0].clone();
            receipt.disks = (0..65)
                .map(|n| ReceiptDisk { id: format!("d{n}").parse().expect("an id"), ..disk.clone() })
                .collect();
        }),
        ("no such block", |receipt| receipt.disks[0].block_size_bytes = 65_537),
        ("no such length", |receipt| receipt.disks[0].length_bytes = u64::MAX),
        ("shorter than its state", |receipt| receipt.disks[0].image_bytes = 1),
        ("a long name", |receipt| receipt.disks[0].image = "x".repeat(4097)),
        ("a long version", |receipt| receipt.product_version = "1".repeat(65)),
    ];
    for (what, change) in changes {
        let mut receipt = receipt();
        change(&mut receipt);
        let file = signed(receipt.payload()).encode();
        SignedReceipt::decode(file.as_bytes()).expect_err(what);
    }
    for payload in
        [String::new(), "{}".into(), receipt().payload() + " ", receipt().payload().replace(":3,", ":3.0,")]
    {
        SignedReceipt::decode(signed(payload).encode().as_bytes()).expect_err("not its own form");
    }
}

#[test]
fn the_largest_receipt_can_be_read() {
    let disk = ReceiptDisk { image: "\u{1}".repeat(RECEIPT_IMAGE_MAX_BYTES), ..receipt().disks[0].clone() };
    let named = |n: usize| ReceiptDisk { id: format!("{n:0>64}").parse().expect("an id"), ..disk.clone() };
    let largest = Receipt { disks: (0..DISKS_PER_MACHINE_MAX).map(named).collect(), ..receipt() };
    let file = signed(largest.payload()).encode();
    assert_eq!(SignedReceipt::decode(file.as_bytes()).map(|(_, receipt)| receipt), Ok(largest));
}

proptest! {
    #[test]
    fn noise_is_an_error_and_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..300), payload in ".{0,200}") {
        let _ = SignedReceipt::decode(&noise);
        let _ = SignedReceipt::decode(signed(payload).encode().as_bytes());
    }
}
