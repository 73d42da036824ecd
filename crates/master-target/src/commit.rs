//! Commit: what the disks are is final. Undo is freed, and thin images give back what is zero.
//!
//! **Invariant**: an image gives back only blocks that read as zero at that moment, and none where something else uses the
//! image or wrote to it since it was released.

use crate::config::Machine;
use crate::operation::{Failed, OpenDisk, Operation, Outcome, Work, as_warning, of_store};
use crate::site::Site;
use crate::verbs::View;
use failback_blockio::Zeroing;
use failback_engine::read_digests;
use failback_format::receipt::{SignedReceipt, fingerprint};
use failback_image::{Image, Provisioning};
use failback_model::{BlockRange, Code, Digest, Finding, Layout};
use failback_pki::is_signed;
use failback_service::clock::time_text;
use failback_service::registry::Lease;
use failback_service::size::human;

/// Makes it final.
pub(crate) struct Committing;

impl Work for Committing {
    fn verb(&self) -> &'static str {
        "commit"
    }

    fn carry_out(&self, operation: &Operation, leases: &[Lease<Machine>]) -> Result<Outcome, Failed> {
        operation.live.step("frees undo");
        let store = operation.store()?;
        let point = store.standing().at;
        let freed = store.commit().map_err(of_store)?;
        operation.live.step("gives back what is zero in thin images");
        let (mut punched, mut findings) = (0, Vec::new());
        for lease in leases {
            match punch(operation, lease) {
                Ok(bytes) => punched += bytes,
                Err(finding) => findings.push(as_warning(finding)),
            }
        }
        let id = &operation.machine.id;
        let said = format!(
            "{id}: committed, {} of undo freed, {} given back by thin images; the machine is not protected until it is \
             replicated again",
            human(freed),
            human(punched)
        );
        Ok(Outcome { said, point, findings })
    }
}

/// Bytes that the disk's image gave back.
fn punch(operation: &Operation, lease: &Lease<Machine>) -> Result<u64, Finding> {
    let path = &lease.disk().path;
    let kept = |finding: Finding| {
        Finding::error(Code::NotPunched, format!("{path}: {}", finding.evidence)).about(path)
    };
    let disks = operation.open(&[lease]).map_err(kept)?;
    let [disk] = &disks[..] else { return Ok(0) };
    if disk.image.provisioning() != Provisioning::Thin {
        return Ok(0);
    }
    let rechecked = operation.recheck(&disks);
    rechecked.map_err(|failed| {
        let why = failed.findings.into_iter().next();
        kept(why.unwrap_or_else(|| Finding::error(Code::Diverged, "something else wrote to it")))
    })?;
    let punched = punch_zeros(disk).map_err(kept);
    operation.close(&disks).map_err(kept)?;
    punched
}

fn punch_zeros(disk: &OpenDisk) -> Result<u64, Finding> {
    let Some(layout) = disk.store.state().layout else { return Ok(0) };
    let before = disk.image.allocated_bytes().map_err(|error| error.to_finding())?;
    for chunk in (0..layout.chunk_count()).map(failback_model::ChunkIndex) {
        punch_chunk(&*disk.image, layout, layout.chunk_blocks(chunk))?;
    }
    disk.image.flush().map_err(|error| error.to_finding())?;
    let after = disk.image.allocated_bytes().map_err(|error| error.to_finding())?;
    Ok(before.saturating_sub(after))
}

/// Punches the runs of zero blocks among these, as they read now.
fn punch_chunk(image: &dyn Image, layout: Layout, blocks: BlockRange) -> Result<(), Finding> {
    let bytes = layout.bytes_of(blocks);
    let data = image.next_data(bytes.start()).map_err(|error| error.to_finding())?;
    if data.is_none_or(|data| data.start() >= bytes.end()) {
        return Ok(());
    }
    let (digests, _) = read_digests(image, layout, blocks).map_err(|error| error.to_finding())?;
    let mut at = blocks.start.0;
    for run in digests.chunk_by(|a, b| (*a == Digest::ZERO) == (*b == Digest::ZERO)) {
        let range = BlockRange::new(at, at + run.len() as u64);
        at = range.end.0;
        if run[0] == Digest::ZERO {
            image.zero(layout.bytes_of(range), Zeroing::Punch).map_err(|error| error.to_finding())?;
        }
    }
    Ok(())
}

impl Site {
    /// Why no receipt proves what the machine's disks are; `None` where one does.
    pub(crate) fn unproven(&self, at: &View) -> Option<Finding> {
        let id = &at.machine.id;
        let lacks = |what: String| {
            let remedy = format!(
                "before power-on: 'failback verify {id} --wait'; 'failback commit {id} --without-receipt' goes without that proof"
            );
            Some(Finding::error(Code::ReceiptNeeded, format!("{id}: {what}")).with_remedy(remedy))
        };
        let receipt = self.receipts().find(id, None).and_then(|file| {
            SignedReceipt::decode(file.text.as_bytes())
                .map_err(|error| Finding::error(Code::ReceiptInvalid, format!("{}: {error}", file.path)))
        });
        let (signed, receipt) = match receipt {
            Ok(receipt) => receipt,
            Err(finding) => return lacks(finding.evidence),
        };
        if !is_signed(&signed) || fingerprint(&signed.public_key) != self.receipts().key() {
            return lacks(format!("receipt {} is not signed by this master target", receipt.number));
        }
        let since = at.standing.since_unix_ms;
        if receipt.issued_unix_ms < since {
            return lacks(format!(
                "receipt {} was signed before the disks were released at {}",
                receipt.number,
                time_text(since)
            ));
        }
        for disk in &at.machine.disk {
            let Ok(held) = at.store.disk(&disk.id).map(|store| store.state()) else {
                return lacks(format!("the journal of disk {} cannot be read", disk.id));
            };
            let proven = receipt.disks.iter().find(|proven| proven.id == disk.id);
            let is_it = |proven: &failback_format::receipt::ReceiptDisk| {
                // The sealed state's root stays what it was while a pass or a way back changes the disk.
                !held.in_pass && proven.generation == held.generation.0 && Some(proven.root) == held.root
            };
            if !proven.is_some_and(is_it) {
                return lacks(format!("receipt {} does not prove disk {} as it is", receipt.number, disk.id));
            }
        }
        None
    }
}
