//! Eight disks of two machines at once, into images of every kind, cycle after cycle: all of them right, and both
//! daemons small.
//!
//! `tools/long soak` runs the same with longer disks and more cycles.

use super::{RESIDENT_MOST_BYTES, asked};
use crate::command::qemu_img;
use crate::sites::{Sites, merged, new_disk, source_disk, target_machine};
use failback_testkit::{GeneratedDisk, Mutation};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// File name, kind of VMDK, and what qemu-img calls it.
const KINDS: [(&str, &str, &str); 8] = [
    ("0.raw", "vmfs", "raw"),
    ("1.vmdk", "vmfs", "vmdk"),
    ("2.vmdk", "monolithicFlat", "vmdk"),
    ("3.vmdk", "twoGbMaxExtentFlat", "vmdk"),
    ("4.vmdk", "monolithicSparse", "vmdk"),
    ("5.vmdk", "twoGbMaxExtentSparse", "vmdk"),
    ("6.vhd", "vmfs", "vpc"),
    ("7.raw", "vmfs", "raw"),
];
const MACHINES: [&str; 2] = ["app01", "db01"];

struct Disk {
    id: String,
    source: PathBuf,
    target: PathBuf,
    qemu: &'static str,
}

fn write_source(path: &Path, seed: u64, length_bytes: u64) {
    let disk = GeneratedDisk::new(seed, length_bytes, 1 << 20);
    let file = File::create(path).expect("made");
    file.set_len(length_bytes).expect("sparse");
    for (range, _) in disk.slots() {
        file.write_all_at(&disk.slot(&range), range.start).expect("writes");
    }
}

fn change_source(path: &Path, seed: u64, length_bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    for (offset_bytes, bytes) in (Mutation { seed, permille: 10 }).pages(length_bytes) {
        file.write_all_at(&bytes, offset_bytes).expect("writes");
    }
}

#[test]
fn eight_disks_at_once_cycle_after_cycle() {
    let length_bytes = asked("FAILBACK_SOAK_MEBIBYTES", 12) << 20;
    let cycles = asked("FAILBACK_SOAK_CYCLES", 2);
    let seed = asked("FAILBACK_SEED", 1500);
    let sites = Sites::new();
    let disks: Vec<_> = KINDS
        .iter()
        .enumerate()
        .map(|(at, &(name, _, qemu))| {
            let source = sites.path(&format!("source-{at}.raw"));
            write_source(&source, seed + at as u64, length_bytes);
            Disk { id: format!("disk{at}"), source, target: sites.path(name), qemu }
        })
        .collect();
    let of = |machine: usize| disks.iter().enumerate().filter(move |(at, _)| at % 2 == machine);
    let targets = [0, 1].map(|machine| {
        let made = |(at, disk): (usize, &Disk)| -> Value {
            merged(new_disk(&disk.id, &disk.target), &json!({"vmdk_type": KINDS[at].1}))
        };
        target_machine(MACHINES[machine], &of(machine).map(made).collect::<Vec<_>>())
    });
    let sources = [0, 1].map(|machine| {
        let read: Vec<_> = of(machine).map(|(_, disk)| source_disk(&disk.id, &disk.source)).collect();
        sites.source_machine(MACHINES[machine], &read)
    });
    let memory = json!({"memory": "128M"});
    let mut mt = sites.master_target(&targets, &memory);
    let mut ps = sites.process_server(&sources, &memory);
    for cycle in 1..=cycles {
        mt.forget();
        ps.reprotect(MACHINES[0]);
        ps.reprotect_also(MACHINES[1]);
        let mut sent = 0;
        for disk in &disks {
            let seal = ps.sealed(&disk.id);
            assert_eq!(seal.generation, cycle, "{}", disk.id);
            assert_eq!(mt.sealed(&disk.id).root, seal.root, "{}", disk.id);
            sent += seal.counter("bytes_to_target");
        }
        for (at, disk) in disks.iter().enumerate() {
            qemu_img(&["compare", "-f", "raw", "-F", disk.qemu], &[&disk.source, &disk.target]);
            change_source(&disk.source, seed + 100 * cycle + at as u64, length_bytes);
        }
        println!(
            "| {cycle} | {} | {} | {} |",
            sent >> 20,
            ps.resident_most_bytes() >> 20,
            mt.resident_most_bytes() >> 20
        );
    }
    for daemon in [&ps, &mt] {
        let resident = daemon.resident_most_bytes();
        assert!(resident <= RESIDENT_MOST_BYTES, "{resident} bytes resident");
        assert!(daemon.status().errors.is_empty(), "{:?}", daemon.status().errors);
    }
}
