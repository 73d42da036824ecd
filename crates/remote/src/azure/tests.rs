//! The source against our own fake of the service.

use super::disk::PageBlob;
use super::service::Patience;
use super::{BlobSnapshots, TokenSource};
use crate::{
    FeedSpec, OpenOptions, RemoteDisk, SourceSpec, Waits, changed_blocks, open_feed, spec::BlobAddress,
};
use failback_blockio::{DiskError, UnitSource};
use failback_format::vhd::VhdFooter;
use failback_model::{BlockRange, BlockSize, ByteRange, Code, Finding, Layout, Severity};
use failback_testkit::{BlobDisk, BlobFault, BlobServer, Random};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A blob in the fake, and the file that holds its URL.
struct Lab {
    server: BlobServer,
    folder: tempfile::TempDir,
    disk: BlobDisk,
}

impl Lab {
    /// A disk of 32 MiB with data in places.
    fn new() -> Self {
        let mut disk = BlobDisk::new(32 * MIB);
        let mut random = Random::new(7);
        for at in [0, MIB, 5 * MIB + 512, 20 * MIB] {
            let mut bytes = vec![0; 300 << 10];
            random.fill(&mut bytes);
            disk.write(at, &bytes);
        }
        Self::of(disk)
    }

    fn of(disk: BlobDisk) -> Self {
        let lab = Self { server: BlobServer::start(), folder: tempfile::tempdir().expect("a folder"), disk };
        lab.server.add("d.vhd", lab.disk.clone());
        lab.write_url(&lab.server.url("d.vhd"));
        lab
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("sas")
    }

    fn write_url(&self, url: &str) {
        std::fs::write(self.file(), url).expect("written");
        std::fs::set_permissions(self.file(), PermissionsExt::from_mode(0o600)).expect("its own");
    }

    fn address(&self) -> BlobAddress {
        BlobAddress::File(self.file())
    }

    fn open_with(&self, options: &OpenOptions) -> Result<PageBlob, Finding> {
        let patience = Patience {
            tries: 4,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_secs(1),
            signature_wait: Duration::from_millis(300),
            signature_poll: Duration::from_millis(5),
            command_wait: Duration::from_millis(300),
        };
        PageBlob::open(&self.address(), options, patience)
    }

    fn open(&self) -> PageBlob {
        self.open_with(&OpenOptions::default()).expect("opened")
    }

    fn feed(&self, base: &str, snapshot: &str) -> Result<Vec<BlockRange>, Finding> {
        let options = OpenOptions { snapshot: Some(snapshot.into()), ..OpenOptions::default() };
        let feed = open_feed(&FeedSpec::Diff(base.into()), &SourceSpec::Blob(self.address()), &options)?;
        let layout = Layout::new(self.disk.length_bytes(), BlockSize::new(64 << 10).expect("a size"));
        Ok(changed_blocks(&*feed, layout.expect("a layout")).expect("asked"))
    }
}

fn read(source: &dyn UnitSource, at: u64, length_bytes: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0; length_bytes as usize];
    source.read_at(at, &mut bytes).map(|()| bytes)
}

fn runs(source: &dyn UnitSource) -> Vec<ByteRange> {
    let (mut at, mut runs) = (0, Vec::new());
    while let Some(range) = source.next_data(at).expect("asked") {
        runs.push(range);
        at = range.end();
    }
    runs
}

#[test]
fn a_blob_reads_as_what_it_holds_and_names_its_holes() {
    let lab = Lab::new();
    lab.server.list_at_most(2);
    let blob = lab.open();
    assert!(read(&blob, 0, 32 * MIB).expect("read") == lab.disk.read(0..32 * MIB));
    let expected: Vec<_> =
        lab.disk.pages().into_iter().map(|run| ByteRange::new(run.start, run.end)).collect();
    assert_eq!(runs(&blob), expected);
    assert_eq!(blob.next_data(MIB + 1024).expect("asked").map(ByteRange::start), Some(MIB + 1024));
    let error = read(&blob, 32 * MIB - 512, 1024).expect_err("past the end");
    assert_eq!(error.code, Code::ReadFailed);
}

#[test]
fn the_footer_of_a_fixed_vhd_is_no_part_of_the_disk() {
    let mut disk = BlobDisk::new(8 * MIB + 512);
    disk.write(0, &[1; 512]);
    let footer = VhdFooter::new_fixed(8 * MIB, [3; 16], 9).expect("a footer");
    disk.write(8 * MIB, footer.as_bytes());
    let lab = Lab::of(disk);
    let blob = lab.open();
    assert_eq!(blob.geometry().length_bytes, 8 * MIB);
    assert_eq!(runs(&blob), [ByteRange::new(0, 512)]);
}

#[test]
fn what_is_no_disk_for_us_is_refused_by_its_name() {
    let mut disk = BlobDisk::new(MIB);
    disk.write(0, &[b"vhdxfile".as_slice(), &[0; 504]].concat());
    let finding = Lab::of(disk).open_with(&OpenOptions::default()).expect_err("refused");
    assert_eq!(finding.code, Code::BlobUnsupported);
    assert!(finding.evidence.contains("4096-byte"), "{}", finding.evidence);
    let lab = Lab::new();
    let missing =
        OpenOptions { snapshot: Some("2020-01-01T00:00:00.0000000Z".into()), ..OpenOptions::default() };
    assert_eq!(lab.open_with(&missing).expect_err("refused").code, Code::BlobMissing);
}

#[test]
fn what_heals_is_asked_again() {
    let lab = Lab::new();
    let blob = lab.open();
    for fault in [
        BlobFault::Cut,
        BlobFault::Damage,
        BlobFault::Busy(500, None),
        BlobFault::Busy(429, None),
        BlobFault::Busy(503, None),
    ] {
        lab.server.fail([fault.clone(), BlobFault::None, fault.clone()]);
        let bytes = read(&blob, 0, 12 * MIB).expect("read");
        assert!(bytes == lab.disk.read(0..12 * MIB), "after {fault:?}");
        lab.server.heal();
    }
}

#[test]
fn a_service_that_asks_for_quiet_gets_it() {
    let lab = Lab::new();
    let blob = lab.open();
    lab.server.fail([BlobFault::Busy(503, Some(1))]);
    let before = Instant::now();
    read(&blob, 0, MIB).expect("read");
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[test]
fn what_does_not_heal_ends_with_what_it_was() {
    let lab = Lab::new();
    let blob = lab.open();
    let before = lab.server.requests();
    lab.server.fail(vec![BlobFault::Busy(503, None); 4]);
    assert_eq!(read(&blob, 0, MIB).expect_err("throttled").code, Code::SourceThrottled);
    assert_eq!(lab.server.requests() - before, 4, "a bounded number of tries");
    lab.server.fail(vec![BlobFault::Cut; 4]);
    let error = read(&blob, MIB, MIB).expect_err("cut");
    assert_eq!((error.code, error.offset_bytes), (Code::SourceUnreachable, Some(MIB)));
    lab.server.fail([BlobFault::Damage, BlobFault::Damage, BlobFault::Damage, BlobFault::Damage]);
    let error = read(&blob, 0, MIB).expect_err("damaged");
    assert!(error.to_string().contains("checksum"), "{error}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    lab.write_url(&format!("http://{nobody}/a/b?sig=S1"));
    assert_eq!(lab.open_with(&OpenOptions::default()).expect_err("nobody").code, Code::SourceUnreachable);
}

#[test]
fn a_blob_that_changes_is_noticed_and_its_snapshot_does_not() {
    let lab = Lab::new();
    let time = lab.server.snapshot("d.vhd");
    let live = lab.open();
    let frozen =
        lab.open_with(&OpenOptions { snapshot: Some(time), ..OpenOptions::default() }).expect("opened");
    lab.server.change("d.vhd", |disk| disk.write(0, &[9; 512]));
    assert_eq!(read(&live, 0, 512).expect_err("another").code, Code::ChangedMeanwhile);
    assert_eq!(read(&frozen, 0, 512).expect("read"), lab.disk.read(0..512));
    let again = lab.open();
    assert_ne!(live.version(), again.version());
    assert_ne!(frozen.version(), again.version());
}

#[test]
fn an_expired_signature_pauses_all_readers_until_the_file_has_another() {
    let lab = Lab::new();
    let patient = Patience { signature_poll: Duration::from_millis(5), ..Patience::default() };
    let blob = PageBlob::open(&lab.address(), &OpenOptions::default(), patient).expect("opened");
    let url = lab.server.expire("d.vhd");
    let before = lab.server.requests();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|number| (number * 4 * MIB, &blob))
            .map(|(at, blob)| scope.spawn(move || (at, read(blob, at, 4 * MIB))))
            .collect();
        while lab.server.requests() == before {
            std::thread::yield_now();
        }
        lab.write_url(&url);
        for reader in readers {
            let (at, bytes) = reader.join().expect("read");
            assert!(bytes.expect("read") == lab.disk.read(at..at + 4 * MIB));
        }
    });
}

#[test]
fn a_command_renews_the_signature_once_for_all_readers() {
    let lab = Lab::new();
    let (next, count) = (lab.folder.path().join("next"), lab.folder.path().join("count"));
    std::fs::write(&next, lab.server.next_url("d.vhd")).expect("written");
    let script = format!("echo x >> {}; cat {}", count.display(), next.display());
    let options =
        OpenOptions { renew: ["sh", "-c", &script].map(String::from).into(), ..OpenOptions::default() };
    let blob = lab.open_with(&options).expect("opened");
    lab.server.fail([BlobFault::Expire]);
    std::thread::scope(|scope| {
        for at in 0..4 {
            let blob = &blob;
            scope.spawn(move || read(blob, at * MIB, MIB).expect("read"));
        }
    });
    assert_eq!(std::fs::read_to_string(&count).expect("called"), "x\n");
    lab.server.expire("d.vhd");
    let error = read(&blob, 0, 512).expect_err("the command gives the same again");
    assert_eq!(error.code, Code::SourceDenied);
    let wrong = OpenOptions { renew: vec!["false".into()], ..OpenOptions::default() };
    assert_eq!(lab.open_with(&wrong).expect_err("failed").code, Code::SourceDenied);
}

#[test]
fn a_signature_that_nobody_renews_is_an_end_that_can_be_mended() {
    let lab = Lab::new();
    let blob = lab.open();
    lab.server.expire("d.vhd");
    let error = read(&blob, 0, 512).expect_err("refused");
    assert_eq!(error.code, Code::SourceDenied);
    assert!(error.to_string().contains("no other came"), "{error}");
    let before = Instant::now();
    let finding = lab.open_with(&OpenOptions::default()).expect_err("refused");
    assert_eq!(finding.code, Code::SourceDenied);
    assert!(before.elapsed() < Duration::from_millis(250), "who just wrote it is told at once");
    for text in [format!("{error:?} {error}"), format!("{finding:?}"), format!("{blob:?}")] {
        assert!(!text.contains("sig=") && !text.contains("S1"), "{text}");
    }
}

#[test]
fn a_wait_for_a_signature_is_told_of_once_and_ends_where_it_shall_stop() {
    let lab = Lab::new();
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let waits = Waits {
        stop: Some(Arc::new({
            let stop = Arc::clone(&stop);
            move || stop.load(Ordering::Relaxed)
        })),
        heard: Some(Arc::new({
            let (stop, told) = (Arc::clone(&stop), Arc::clone(&told));
            move |why: Option<&Finding>| {
                told.lock().expect("no test panics with it").push(why.map(|why| (why.code, why.severity)));
                stop.store(true, Ordering::Relaxed);
            }
        })),
    };
    let options = OpenOptions { waits, ..OpenOptions::default() };
    // As patient as it is where nobody stops it.
    let blob = PageBlob::open(&lab.address(), &options, Patience::default()).expect("opened");
    lab.server.expire("d.vhd");
    std::thread::scope(|scope| {
        for reader in [0, 1].map(|at| {
            scope.spawn({
                let blob = &blob;
                move || read(blob, at * MIB, MIB)
            })
        }) {
            assert_eq!(reader.join().expect("it ends").expect_err("stopped").code, Code::Cancelled);
        }
    });
    let waited = [Some((Code::SourceDenied, Severity::Warning)), None];
    assert_eq!(*told.lock().expect("no test panics with it"), waited);
}

#[test]
fn a_command_whose_output_stays_open_ends_in_time_and_where_it_shall_stop() {
    let lab = Lab::new();
    let script = format!("echo '{}'; sleep 1000 &", lab.server.next_url("d.vhd"));
    let renew: Vec<_> = ["sh", "-c", &script].map(String::from).into();
    for (stops, code) in [(false, Code::SourceDenied), (true, Code::Cancelled)] {
        let waits = Waits { stop: stops.then(|| Arc::new(|| true) as _), heard: None };
        let blob = lab.open_with(&OpenOptions { renew: renew.clone(), waits, ..OpenOptions::default() });
        lab.server.expire("d.vhd");
        let error = read(&blob.expect("opened"), 0, 512).expect_err("it never ends by itself");
        assert_eq!(error.code, code, "{error}");
        lab.write_url(&lab.server.url("d.vhd"));
    }
}

#[derive(Debug)]
struct Token;

impl TokenSource for Token {
    fn token(&self) -> Result<String, Finding> {
        Ok("T".into())
    }
}

#[test]
fn who_may_not_read_is_told_why() {
    let lab = Lab::new();
    let refused = |fault| {
        lab.server.fail([fault]);
        lab.open_with(&OpenOptions::default()).expect_err("refused").code
    };
    assert_eq!(refused(BlobFault::Refused(403, "AuthorizationFailure", None)), Code::BlobNetworkDenied);
    assert_eq!(refused(BlobFault::Refused(403, "AuthorizationPermissionMismatch", None)), Code::SourceDenied);
    assert_eq!(refused(BlobFault::Refused(409, "PublicAccessNotPermitted", None)), Code::SourceDenied);
    assert_eq!(refused(BlobFault::Refused(400, "Strange", None)), Code::CloudFailed);
    lab.server.require_token("T");
    let finding = lab.open_with(&OpenOptions::default()).expect_err("refused");
    assert_eq!(finding.code, Code::BlobTokenNeeded);
    let options = OpenOptions { token: Some(Arc::new(Token)), ..OpenOptions::default() };
    assert_eq!(read(&lab.open_with(&options).expect("let in"), 0, 512).expect("read"), lab.disk.read(0..512));
}

#[test]
fn a_diff_names_what_was_written_and_what_was_cleared() {
    let lab = Lab::new();
    let first = lab.server.snapshot("d.vhd");
    lab.server.change("d.vhd", |disk| {
        disk.write(10 * MIB, &[1; 4096]);
        disk.write(10 * MIB + (64 << 10), &[2; 512]);
        disk.clear(MIB..MIB + 512);
        disk.write(30 * MIB, &[3; 512]);
    });
    let second = lab.server.snapshot("d.vhd");
    lab.server.list_at_most(1);
    let expected = [BlockRange::new(16, 17), BlockRange::new(160, 162), BlockRange::new(480, 481)];
    assert_eq!(lab.feed(&first, &second).expect("a diff"), expected);

    let base = lab.folder.path().join("base");
    std::fs::write(&base, format!("{}&snapshot={first}", lab.server.url("d.vhd"))).expect("written");
    assert_eq!(lab.feed(&format!("@{}", base.display()), &second).expect("a diff"), expected);

    lab.server.lie_about(10 * MIB..11 * MIB);
    let lied = lab.feed(&first, &second).expect("a diff");
    assert_eq!(lied, [expected[0], expected[2]], "a lie is taken as it is: whoever uses it checks");

    let finding = lab.feed("2020-01-01T00:00:00.0000000Z", &second).expect_err("no such base");
    assert_eq!(finding.code, Code::FeedUnusable);
    assert!(finding.evidence.contains("PreviousSnapshotNotFound"), "{}", finding.evidence);
}

#[test]
fn snapshots_are_made_listed_by_their_mark_and_removed() {
    let lab = Lab::new();
    let foreign = lab.server.snapshot("d.vhd");
    let snapshots = BlobSnapshots::new(&lab.address(), &[]).expect("a blob");
    let made = [snapshots.create().expect("made"), snapshots.create().expect("made")];
    assert_eq!(snapshots.list().expect("listed"), made);
    snapshots.delete(&made[0]).expect("removed");
    snapshots.delete(&made[0]).expect("gone is gone");
    assert_eq!(snapshots.list().expect("listed"), made[1..]);
    assert_eq!(lab.server.snapshots("d.vhd"), [foreign, made[1].clone()]);
    lab.write_url(&format!("{}&snapshot={}", lab.server.url("d.vhd"), made[1]));
    let finding = BlobSnapshots::new(&lab.address(), &[]).expect_err("a snapshot has none");
    assert_eq!(finding.code, Code::SourceUnsupported);
}

#[test]
fn no_more_is_under_way_than_was_asked_for() {
    let lab = Lab::new();
    lab.server.delay(Duration::from_millis(5));
    let blob = lab.open_with(&OpenOptions { connections: 3, ..OpenOptions::default() }).expect("opened");
    std::thread::scope(|scope| {
        for at in 0..12 {
            let blob = &blob;
            scope.spawn(move || read(blob, at * MIB, MIB).expect("read"));
        }
    });
    assert_eq!(lab.server.most_at_once(), 3);
}

#[test]
fn an_open_file_and_encrypted_contents_are_worth_a_warning() {
    let mut disk = BlobDisk::new(8 * MIB);
    disk.write(0, &[b"LUKS\xba\xbe".as_slice(), &[0; 506]].concat());
    let lab = Lab::of(disk);
    std::fs::set_permissions(lab.file(), PermissionsExt::from_mode(0o644)).expect("changed");
    let codes: Vec<_> = lab.open().warnings().into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::SecretExposed, Code::ContentEncrypted]);
}
