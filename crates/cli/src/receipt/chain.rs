//! The receipts before one: each is named by the next, so that none can be removed or replaced unnoticed.

use super::{Sound, read};
use failback_format::receipt::{Receipt, file_digest};
use failback_model::{Code, Finding};
use std::path::Path;

/// Checks every receipt before this one, from the last to the first; how many there are, or what is wrong with one.
pub(super) fn check(path: &Path, last: &Sound) -> Result<u64, Finding> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut next, mut count) = (last.receipt.clone(), 0);
    while let Some(expected) = next.previous {
        let number = next.number - 1;
        let path = folder.join(format!("receipt-{number}.json"));
        let broken = |why: &str| {
            let evidence = format!("{}: {why}", path.display());
            Finding::error(Code::ReceiptChainBroken, evidence).about(&path)
        };
        if !path.exists() {
            return Err(broken(&format!("receipt {number} of {} is missing", next.machine)));
        }
        let before = read(&path)?;
        if file_digest(&before.file) != expected {
            return Err(broken(&format!("it is not the one that receipt {} names", next.number)));
        }
        if !follows(&before.receipt, &next) {
            return Err(broken(&format!("it is not what receipt {} follows", next.number)));
        }
        if before.signed.public_key != last.signed.public_key {
            let evidence = format!("{}: another key than that of {}", path.display(), last.receipt.number);
            return Err(Finding::error(Code::ReceiptKeyDiffers, evidence).about(&path));
        }
        (next, count) = (before.receipt, count + 1);
    }
    Ok(count)
}

fn follows(before: &Receipt, next: &Receipt) -> bool {
    before.machine == next.machine && before.number + 1 == next.number
}
