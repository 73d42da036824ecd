//! A receipt's file as it is, and as an envelope around a payload of the input's own.

use failback_format::receipt::{SignedReceipt, file_digest};

/// Decodes; what decodes is written as it was read, and its disks can be laid out.
pub fn receipt(data: &[u8]) {
    try_file(data);
    if let Ok(payload) = str::from_utf8(data) {
        let wrapped = SignedReceipt { public_key: [7; 32], payload: payload.into(), signature: [9; 64] };
        try_file(wrapped.encode().as_bytes());
    }
}

fn try_file(file: &[u8]) {
    let Ok((signed, receipt)) = SignedReceipt::decode(file) else { return };
    assert_eq!(signed.encode().as_bytes(), file, "every byte has a meaning");
    assert_eq!(receipt.payload(), signed.payload);
    receipt.check().expect("what decodes was checked");
    let layouts = receipt.disks.iter().map(|disk| disk.layout().expect("a layout that was checked"));
    assert!(layouts.zip(&receipt.disks).all(|(layout, disk)| layout.length_bytes() <= disk.image_bytes));
    let mut changed = signed.clone();
    changed.payload.push(' ');
    assert_ne!(file_digest(file), file_digest(changed.encode().as_bytes()));
}
