//! Ends that are killed without warning, at random moments of one pass: its end state is right, and what is sent and
//! scanned twice is bounded (DESIGN.md 10: the open groups and one window; finished chunks are not scanned again).
//!
//! `tools/long daemons-kill` runs the same with more kills over a longer disk.

use super::{SLOW_WINDOW_BYTES, asked, assert_equal, slow_machine};
use crate::sites::{Daemon, Proxy, Sites, merged, source_disk, target_disk, target_machine};
use failback_model::limits::UNDO_SEGMENT_PLAIN_BYTES;
use failback_testkit::Random;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// Blocks of 16 KiB, so that a disk of this size has chunks to finish.
const BLOCK_BYTES: u64 = 16 << 10;
const CHUNK_BYTES: u64 = 1024 * BLOCK_BYTES;
const BYTES_PER_SECOND: u64 = 8_000_000;

/// Writes two random disks of which every third block is the same: both ends have to scan, and most travels. Bytes by
/// which they differ.
fn write_disks(source: &Path, target: &Path, seed: u64, length_bytes: u64) -> u64 {
    let [mut source, mut target] =
        [source, target].map(|path| BufWriter::new(File::create(path).expect("made")));
    let mut random = Random::new(seed);
    let [mut one, mut other] = [(); 2].map(|()| vec![0; BLOCK_BYTES as usize]);
    let mut differing = 0;
    for block in 0..length_bytes / BLOCK_BYTES {
        random.fill(&mut one);
        random.fill(&mut other);
        let is_same = block % 3 == 0;
        differing += if is_same { 0 } else { BLOCK_BYTES };
        source.write_all(&one).expect("writes");
        target.write_all(if is_same { &one } else { &other }).expect("writes");
    }
    source.flush().and_then(|()| target.flush()).expect("writes");
    differing
}

/// One end, and what it has read of files in the lives that were taken from it.
struct Victim {
    daemon: Daemon,
    kills: u64,
    read: u64,
}

impl Victim {
    fn new(daemon: Daemon) -> Self {
        Self { daemon, kills: 0, read: 0 }
    }

    fn kill(&mut self) {
        self.read += self.daemon.kill_counting();
        self.kills += 1;
        self.daemon.restart();
    }

    fn read_in_all(&self) -> u64 {
        self.read + self.daemon.bytes_read()
    }
}

#[test]
fn kills_of_either_side_in_one_pass() {
    let kills = asked("FAILBACK_KILLS", 5);
    let length_bytes = asked("FAILBACK_KILL_MEBIBYTES", 96) << 20;
    let seed = asked("FAILBACK_SEED", 2);
    let sites = Sites::new();
    let (source, target) = (sites.path("source.raw"), sites.path("target.raw"));
    let differing = write_disks(&source, &target, seed, length_bytes);
    let memory = json!({"memory": SLOW_WINDOW_BYTES});
    let machines = [target_machine("app01", &[target_disk("disk0", &target)])];
    let mut mt = Victim::new(sites.master_target(&machines, &memory));
    let proxy = Proxy::new(sites.at(9543), sites.at(9443));
    let mut machine = slow_machine(&proxy, &source, BYTES_PER_SECOND);
    machine["disk"] = json!([merged(source_disk("disk0", &source), &json!({"block_size": BLOCK_BYTES}))]);
    let mut ps = Victim::new(sites.process_server(&[machine], &memory));
    ps.daemon.reprotect("app01");

    // Blows fall on three quarters of the way, so that all of them fall before it ends.
    let mut random = Random::new(seed);
    let apart = differing * 3 / 4 / kills;
    for _ in 0..kills {
        proxy.wait_for(random.below(2 * apart));
        let victim = if random.below(2) == 0 { &mut mt } else { &mut ps };
        victim.kill();
        // Without waiting for its own next try.
        ps.daemon.resume("app01");
    }
    ps.daemon.sealed("disk0");
    mt.daemon.sealed("disk0");
    assert_equal(&source, &target);

    let (read_source, read_target) = (ps.read_in_all(), mt.read_in_all());
    let sent_again = proxy.to_target() - differing;
    println!(
        "| {seed} | {} | {} | {kills} | {differing} | {sent_again} | {read_source} | {read_target} |",
        length_bytes >> 20,
        ps.kills,
    );
    // Open groups may cost as much again; at this rate and with this window they are closed sooner.
    let beside = differing / 64;
    assert!(sent_again <= kills * SLOW_WINDOW_BYTES + beside, "{sent_again} bytes were sent again");
    // Each end scans its disk once, and reads what differs: the source to send it, the target for its page digests and
    // for what a patch leaves. Each kill costs the chunks that were not finished, and what was under way. What the target's
    // journal announces ahead is within that: at this rate nobody waits for it, so it is little.
    let per_kill = 2 * CHUNK_BYTES + SLOW_WINDOW_BYTES;
    let source_most = length_bytes + differing + sent_again + kills * per_kill;
    assert!(read_source <= source_most, "{read_source} bytes of the source were read, {source_most} may");
    // Undo reads each page that is overwritten once more; a target that starts reads the last segment of it to its end.
    let undo = differing + sent_again + mt.kills * differing.min(UNDO_SEGMENT_PLAIN_BYTES);
    let target_most = length_bytes + 2 * (differing + sent_again) + undo + kills * per_kill;
    assert!(read_target <= target_most, "{read_target} bytes of the target were read, {target_most} may");
}
