//! Ends that are killed without warning, at different moments of one pass: its end state is right, and what is sent and
//! scanned twice is bounded (DESIGN.md 10: the open groups and one window; finished chunks are not scanned again).

use super::{SLOW_WINDOW_BYTES, assert_equal, slow_machine};
use crate::sites::{Proxy, Sites, merged, source_disk, target_disk, target_machine};
use serde_json::json;
use std::fs;

const LENGTH_BYTES: u64 = 96 << 20;
const BYTES_PER_SECOND: u64 = 8_000_000;
/// Blocks of 16 KiB, so that a disk of this size has chunks to finish.
const BLOCK_BYTES: usize = 16 << 10;
const CHUNK_BYTES: u64 = 1024 * BLOCK_BYTES as u64;
const KILLS_AFTER_BYTES: [u64; 5] = [13 << 20, 3 << 20, 14 << 20, 15 << 20, 6 << 20];

#[test]
fn five_kills_of_either_side_in_one_pass() {
    let sites = Sites::new();
    // Every third block is the same, the others are not: both ends have to scan, and most travels.
    let source = sites.random_disk("source.raw", 900, LENGTH_BYTES);
    let target = sites.random_disk("target.raw", 901, LENGTH_BYTES);
    let mut bytes = fs::read(&target).expect("reads");
    let same = fs::read(&source).expect("reads");
    let blocks = bytes.chunks_mut(BLOCK_BYTES).zip(same.chunks(BLOCK_BYTES));
    blocks.step_by(3).for_each(|(to, from)| to.copy_from_slice(from));
    fs::write(&target, &bytes).expect("writes");
    let differing: u64 =
        bytes.chunks(BLOCK_BYTES).zip(same.chunks(BLOCK_BYTES)).filter(|(a, b)| a != b).count() as u64
            * BLOCK_BYTES as u64;

    let memory = json!({"memory": SLOW_WINDOW_BYTES});
    let machines = [target_machine("app01", &[target_disk("disk0", &target)])];
    let mut mt = sites.master_target(&machines, &memory);
    let proxy = Proxy::new(sites.at(9543), sites.at(9443));
    let mut machine = slow_machine(&proxy, &source, BYTES_PER_SECOND);
    machine["disk"] = json!([merged(source_disk("disk0", &source), &json!({"block_size": BLOCK_BYTES}))]);
    let mut ps = sites.process_server(&[machine], &memory);
    ps.reprotect("app01");
    let (mut read_source, mut read_target) = (0, 0);
    for (round, &after) in KILLS_AFTER_BYTES.iter().enumerate() {
        proxy.wait_for(after);
        if round % 2 == 0 {
            read_target += mt.kill_counting();
            mt.restart();
        } else {
            read_source += ps.kill_counting();
            ps.restart();
        }
        // Without waiting for its own next try.
        ps.resume("app01");
    }
    ps.sealed("disk0");
    mt.sealed("disk0");
    read_source += ps.bytes_read();
    read_target += mt.bytes_read();
    assert_equal(&source, &target);

    let kills = KILLS_AFTER_BYTES.len() as u64;
    let sent_again = proxy.to_target() - differing;
    println!("sent again {sent_again}; read {read_source} of the source, {read_target} of the target");
    // Open groups may cost as much again; at this rate and with this window they are closed sooner.
    assert!(sent_again <= kills * SLOW_WINDOW_BYTES, "{sent_again} bytes were sent again");
    // Each end scans its disk once, and reads what differs: the source to send it, the target for its page digests and
    // again for what a patch leaves. Each kill costs the chunks that were not finished, and what was under way.
    let per_kill = 2 * CHUNK_BYTES + SLOW_WINDOW_BYTES;
    let source_most = LENGTH_BYTES + differing + sent_again + kills * per_kill;
    assert!(read_source <= source_most, "{read_source} bytes of the source were read, {source_most} may");
    let target_most = LENGTH_BYTES + 2 * (differing + sent_again) + kills * per_kill;
    assert!(read_target <= target_most, "{read_target} bytes of the target were read, {target_most} may");
}
