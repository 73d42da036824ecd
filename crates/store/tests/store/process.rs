//! A process of its own that is killed: its lock ends with it, what it acknowledged stays.

use crate::support::{DeviceImage, claim, digest, disk_id, layout, machine, range, write_blocks};
use failback_model::{Code, Epoch};
use failback_store::{Fingerprint, MachineStore};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const FOLDER: &str = "FAILBACK_STORE_TEST_FOLDER";
const BLOCKS: u64 = 500;

/// What the other process does: one group after the other, each said when it is acknowledged.
fn write_until_killed(folder: &Path) {
    let store = MachineStore::open(folder, None, &machine()).expect("opened");
    let disk = store.disk(&disk_id()).expect("a disk");
    let fingerprint = Fingerprint::of_text("new");
    let number = disk.open_session(Epoch(1), layout(BLOCKS), true, &fingerprint).expect("a session");
    let sink = disk.sink(DeviceImage::in_memory(layout(BLOCKS)), number, claim());
    for block in 0..BLOCKS {
        write_blocks(&*sink, range(block, block + 1), block as u8 | 1);
        sink.commit().expect("committed");
        println!("\nacknowledged {block}");
        std::io::stdout().flush().expect("the parent reads");
    }
}

#[test]
fn a_killed_process_leaves_what_it_acknowledged() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_until_killed(Path::new(&folder));
    }
    for wanted in [0, 3, 40] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "process::a_killed_process_leaves_what_it_acknowledged", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        // Read from until the end: it is to be killed while it writes to its journal.
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let acknowledged = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok())
            .find(|&block| block >= wanted)
            .expect("it gets there");
        let second = MachineStore::open(folder.path(), None, &machine()).expect_err("it is in use");
        assert_eq!(second.code(), Code::JournalInUse, "{second}");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let store = MachineStore::open(folder.path(), None, &machine()).expect("recovered");
        let trusted = store.disk(&disk_id()).expect("a disk").trusted().expect("known");
        let held = trusted.digests.digests(range(0, acknowledged + 1)).expect("read");
        assert_eq!(held, (0..=acknowledged).map(|block| digest(block as u8 | 1)).collect::<Vec<_>>());
        assert!(trusted.ranges[0].start.0 == 0 && trusted.ranges[0].end.0 > acknowledged);
    }
}
