//! Receipts: a file of two disks, its payload alone, and one that is cut.

use crate::Seed;
use failback_format::receipt::{RECEIPT_VERSION, Receipt, ReceiptDisk, ReceiptRead, SignedReceipt};
use failback_model::{Digest, DiskId};

pub(crate) fn seeds() -> Vec<Seed> {
    let payload = receipt().payload();
    let file = SignedReceipt { public_key: [3; 32], payload: payload.clone(), signature: [5; 64] }.encode();
    let cut = file.as_bytes()[..file.len() / 2].to_vec();
    vec![
        ("receipt", "file", file.into_bytes()),
        ("receipt", "payload", payload.into_bytes()),
        ("receipt", "cut", cut),
    ]
}

fn receipt() -> Receipt {
    let disk = |id: &str, read| ReceiptDisk {
        id: DiskId::new(id).expect("an id"),
        image: "/vm/web01.vmdk".into(),
        format: "vmfs".into(),
        image_bytes: 2 << 20,
        length_bytes: (1 << 20) + 4096,
        block_size_bytes: 65_536,
        generation: 3,
        epoch: 17,
        root: Digest([0xc4; 32]),
        bytes_read: 1 << 20,
        read,
        started_unix_ms: 1_795_507_199_000,
        finished_unix_ms: 1_795_507_200_000,
    };
    Receipt {
        version: RECEIPT_VERSION,
        machine: "web01".parse().expect("an id"),
        number: 2,
        previous: Some(Digest([0x5a; 32])),
        point: None,
        issued_unix_ms: 1_795_507_200_250,
        product_version: "0.1.0".into(),
        disks: vec![disk("disk0", ReceiptRead::Direct), disk("disk1", ReceiptRead::Cached)],
    }
}
