//! Cycles of a managed disk, over HTTP, against our own fakes of Azure's management and of its page blobs.

use super::*;
use crate::config::Config;
use crate::lineage::{Base, Lineage};
use crate::runner::source_of;
use failback_model::{BlockRange, BlockSize, Digest, Layout};
use failback_remote::Waits;
use failback_remote::changed_blocks;
use failback_testkit::{ArmServer, BlobDisk, BlobServer, FakeArm};
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const DISK: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/os";

struct Lab {
    folder: tempfile::TempDir,
    fake: Arc<FakeArm>,
    blobs: BlobServer,
    config: Config,
}

impl Lab {
    /// A disk of 32 MiB, with data in its second one.
    fn new() -> Self {
        let (folder, fake, blobs) =
            (tempfile::tempdir().expect("a folder"), Arc::new(FakeArm::new()), BlobServer::start());
        let mut disk = BlobDisk::new(32 * MIB);
        disk.write(MIB, &[1; 64 << 10]);
        blobs.add("os", disk);
        fake.add_disk(DISK, None, "Premium_LRS", 32 * MIB);
        let server = ArmServer::start(Arc::clone(&fake), blobs.clone());
        let token = folder.path().join("token");
        std::fs::write(&token, "T\n").expect("written");
        let text = format!(
            "azure = {{ endpoint = '{}', token_file = '{}' }}\n{}",
            server.url(),
            token.display(),
            machine(&format!("azdisk:{DISK}"))
        );
        let config = parse(&text).expect("it is right");
        Self { folder, fake, blobs, config }
    }

    /// A daemon that starts.
    fn daemon(&self) -> Managed {
        let folder = self.folder.path().join("azure");
        Managed::new(self.config.azure.clone(), folder, CancellationToken::new())
    }

    fn machine(&self) -> &Machine {
        &self.config.machine[0]
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("sources/web01/d0")
    }

    fn take(&self, daemon: &Managed, cycle: u64) -> (String, bool) {
        let (taken, is_new) = daemon.take(self.machine(), cycle).expect("taken");
        (taken.states[0].id.to_string(), is_new)
    }

    /// The pass of a cycle: where its source has data, and what its feed names.
    fn read(&self, daemon: &Managed, cycle: u64, state: &str) -> (Vec<u64>, Option<Vec<BlockRange>>) {
        let machine = self.machine();
        let name = state.to_owned();
        let (source, feed) = source_of(
            (machine, &machine.disk[0]),
            daemon,
            &self.source(),
            cycle,
            Some(&name),
            Waits::default(),
        )
        .expect("open");
        let mut data = Vec::new();
        let mut at = 0;
        while let Some(range) = source.next_data(at).expect("asked") {
            let mut bytes = vec![0; (range.end() - range.start()) as usize];
            source.read_at(range.start(), &mut bytes).expect("read");
            assert!(bytes.iter().any(|byte| *byte != 0));
            data.push(range.start());
            at = range.end();
        }
        let layout = Layout::new(32 * MIB, BlockSize::new(64 << 10).expect("a size")).expect("a layout");
        (data, feed.ok().map(|(_, feed)| changed_blocks(&*feed, layout).expect("asked")))
    }

    fn seal(&self, daemon: &Managed, cycle: u64, state: &str) {
        let base = Base {
            epoch: 1,
            cycle,
            generation: cycle,
            root: Digest([7; 32]).to_string(),
            pass_bytes: 32 * MIB,
            block_bytes: 64 << 10,
            named: self.machine().disk[0].named(),
            snapshot: Some(state.into()),
        };
        Lineage::sealed(base, 0).keep(&self.source()).expect("kept");
        let kept = [Snapshot { disk: "d0".into(), name: state.into() }];
        daemon.retire(self.machine(), &kept).expect("the others are gone");
    }

    /// Access is taken back on a thread of its own.
    fn until_nothing_is_read(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.fake.open_accesses().is_empty() {
            assert!(Instant::now() < end, "still open: {:?}", self.fake.open_accesses());
            std::thread::yield_now();
        }
    }
}

fn machine(source: &str) -> String {
    format!(
        "tls = {{ certificate = 'c', key = 'k', ca = 'a' }}\n[[machine]]\nid = 'web01'\ntarget = 'mt:9443'\n\
         target_identity = 'failback://master-target/mt'\ndisk = [{{ id = 'd0', source = '{source}' }}]"
    )
}

fn parse(text: &str) -> Result<Config, Vec<Finding>> {
    failback_service::config::parse(text, Path::new("ps.toml"))
}

#[test]
fn the_second_cycle_reads_the_difference_and_the_first_ones_state_goes() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let (first, is_new) = lab.take(&daemon, 1);
    assert!(is_new);
    lab.blobs.change("os", |disk| disk.write(20 * MIB, &[2; 4096]));
    let (data, changed) = lab.read(&daemon, 1, &first);
    assert_eq!((data, changed), (vec![MIB], None), "what was written later is not of the state");
    lab.until_nothing_is_read();
    lab.seal(&daemon, 1, &first);
    assert_eq!(lab.fake.states(), [&*first]);

    // Killed between take and claim: whoever starts next has the same state, and says that it is older than its hooks.
    let (second, _) = lab.take(&lab.daemon(), 2);
    let daemon = lab.daemon();
    assert_eq!(lab.take(&daemon, 2), (second.clone(), false));
    let (data, changed) = lab.read(&daemon, 2, &second);
    assert_eq!(data, [MIB, 20 * MIB]);
    assert_eq!(changed, Some(vec![BlockRange::new(320, 321)]));
    lab.until_nothing_is_read();
    lab.seal(&daemon, 2, &second);
    assert_eq!(lab.fake.states(), [second]);
    assert_eq!(lab.fake.violations(), [""; 0]);
    let notes = std::fs::read_to_string(lab.folder.path().join("azure/web01.json")).expect("notes");
    assert!(!notes.contains("sig="));
}

#[test]
fn a_daemon_that_is_killed_while_it_reads_leaves_no_access_open() {
    let lab = Lab::new();
    let daemon = lab.daemon();
    let (state, _) = lab.take(&daemon, 1);
    let read = daemon.read(lab.machine(), &state, None).expect("it is read");
    let again = daemon.read(lab.machine(), &state, None).expect("by two");
    assert!(Arc::ptr_eq(&read, &again));
    assert_eq!(lab.fake.open_accesses(), [&*state]);
    let (next, is_new) = lab.take(&lab.daemon(), 1);
    assert_eq!((next, is_new), (state, false));
    assert_eq!(lab.fake.open_accesses(), [""; 0]);
}

#[test]
fn what_cannot_work_is_said_of_the_configuration() {
    let managed = machine(&format!("azdisk:{DISK}"));
    let both = managed.replace("}]", "}, { id = 'd1', source = '/x.raw' }]");
    for (text, said) in [
        (managed.clone(), "nothing says how Azure is asked"),
        (format!("azure = {{}}\n{managed}"), "names both, or none"),
        (format!("azure = {{ token_command = ['az'] }}\n{managed}"), "no absolute path"),
        (format!("azure = {{ token_file = '/t', endpoint = 'http://h' }}\n{managed}"), "in the open"),
        (format!("azure = {{ token_file = '/t' }}\n{both}"), "and some are not"),
    ] {
        let findings = parse(&text).expect_err(said);
        assert!(findings.iter().any(|finding| finding.evidence.contains(said)), "{said}: {findings:?}");
    }
    let hooks = "before_snapshot = ['/bin/true']\nafter_snapshot = ['/bin/true']";
    parse(&format!("azure = {{ token_file = '/t' }}\n{managed}\n{hooks}"))
        .expect("hooks around our own states");
}
