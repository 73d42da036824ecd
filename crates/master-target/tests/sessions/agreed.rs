//! Cycles whose process server holds the digests of the state that the target is in.

use crate::site::Site;
use failback_blockio::DiskError;
use failback_engine::TrustedDigests;
use failback_model::{BlockIndex, BlockRange, BlockSize, Digest, Layout, block_digest};
use failback_pass::Progress;
use failback_process_server::{Agreed, Delivery, Sent};
use std::fs;
use std::sync::Arc;

struct Held(Vec<Digest>);

impl TrustedDigests for Held {
    fn digests(&self, blocks: BlockRange) -> Result<Vec<Digest>, DiskError> {
        Ok(self.0[blocks.start.0 as usize..blocks.end.0 as usize].to_vec())
    }

    fn next_data(&self, from: BlockIndex) -> Result<Option<BlockIndex>, DiskError> {
        Ok((from.0 < self.0.len() as u64).then_some(from))
    }
}

/// What was sent of a source that is still the same.
fn agreed(site: &Site, sent: &Sent) -> Agreed {
    let bytes = fs::read(site.source()).expect("read");
    let layout = Layout::new(bytes.len() as u64, BlockSize::DEFAULT).expect("a layout");
    let digests = bytes.chunks(BlockSize::DEFAULT.bytes() as usize).map(block_digest).collect();
    Agreed { root: sent.root, generation: sent.generation, layout, digests: Arc::new(Held(digests)) }
}

/// A cycle of a source that changed; what it sent, and what the target sent of digests and the rest.
fn cycle(site: &Site, agreed: Agreed) -> (Sent, u64) {
    let attempt = Delivery { agreed: Some(agreed), ..site.attempt(1) };
    let sent = site.run(&attempt).expect("a cycle");
    site.assert_same();
    (sent, Progress::get(&attempt.progress.bytes_to_source))
}

#[test]
fn a_target_that_is_what_its_process_server_knows_tells_no_digests_and_reads_what_it_writes() {
    let length = 256 << 20;
    let site = Site::new(length);
    let (sent, _) = site.send(1);
    let mut sent = sent.expect("the first pass");
    site.assert_same();
    let digests_bytes = length / 65_536 * 16;
    for seed in 2..4 {
        let base = agreed(&site, &sent);
        // A page of every hundredth block.
        let mut bytes = fs::read(site.source()).expect("read");
        bytes.chunks_mut(100 * 65_536).for_each(|part| part[5000..6000].fill(seed));
        fs::write(site.source(), bytes).expect("written");
        let (next, told) = cycle(&site, base);
        sent = next;
        assert!(told < digests_bytes / 4, "{told} bytes where all digests are {digests_bytes}");
        let (read, _) = site.target_reads();
        assert!(read <= 2 * 41 * 65_536, "{read} bytes of the target were read");
    }
}

#[test]
fn another_state_than_the_target_names_is_not_agreed_on() {
    let length = 64 << 20;
    let site = Site::new(length);
    let (sent, _) = site.send(1);
    let sent = sent.expect("the first pass");
    site.assert_same();
    let base = agreed(&site, &sent);
    site.mutate_source(7);
    let (sent, told) = cycle(&site, Agreed { generation: sent.generation.next(), ..base });
    let digests_bytes = length / 65_536 * 16;
    assert!(told > digests_bytes / 2, "{told} bytes where all digests are {digests_bytes}");

    // Nor one of another length, though the target names it.
    let base = agreed(&site, &sent);
    site.mutate_source(8);
    let layout = Layout::new(length - 65_536, BlockSize::DEFAULT).expect("a layout");
    let (_, told) = cycle(&site, Agreed { layout, ..base });
    assert!(told > digests_bytes / 2, "{told} bytes where all digests are {digests_bytes}");
}

#[test]
fn digests_that_are_not_those_of_the_root_cost_a_repair() {
    let site = Site::new(64 << 20);
    let (sent, _) = site.send(1);
    let sent = sent.expect("the first pass");
    site.assert_same();
    let base = agreed(&site, &sent);
    site.mutate_source(9);
    // Half of it is said to be as the source is now.
    let now = agreed(&site, &sent);
    let count = base.layout.block_count();
    let digests =
        |agreed: &Agreed, from, to| agreed.digests.digests(BlockRange::new(from, to)).expect("they are held");
    let mixed = [digests(&base, 0, count / 2), digests(&now, count / 2, count)].concat();
    let attempt =
        Delivery { agreed: Some(Agreed { digests: Arc::new(Held(mixed)), ..base }), ..site.attempt(1) };
    site.run(&attempt).expect("a cycle");
    site.assert_same();
    assert!(Progress::get(&attempt.progress.blocks_repaired) > 10);
}
