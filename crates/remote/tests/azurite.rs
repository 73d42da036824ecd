//! Page blobs of a real service: Azurite, which `tools/test` installs.

use failback_blockio::UnitSource;
use failback_image::Image;
use failback_model::{ByteRange, Code, Finding};
use failback_remote::azure::BlobSnapshots;
use failback_remote::{BlobAddress, OpenOptions, SourceSpec, open};
use failback_testkit::{Azurite, Random};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const MIB: usize = 1 << 20;
const LATER: &str = "2099-01-01T00:00:00Z";

struct Lab {
    azurite: Azurite,
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Lab {
    /// A disk of 24 MiB with data in places, uploaded.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = vec![0; 24 * MIB];
        let mut random = Random::new(3);
        for (at, length_bytes) in [(0, 64 << 10), (3 * MIB, 6 * MIB), (20 * MIB + 512, 512)] {
            random.fill(&mut bytes[at..at + length_bytes]);
        }
        let path = folder.path().join("disk.raw");
        std::fs::write(&path, &bytes).expect("written");
        let azurite = Azurite::start(&folder.path().join("azurite"));
        azurite.upload("d", &path);
        Self { azurite, folder, bytes }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("sas")
    }

    fn write_url(&self, url: &str) {
        std::fs::write(self.file(), url).expect("written");
    }

    fn open_at(&self, snapshot: Option<&str>) -> Result<Arc<dyn Image>, Finding> {
        let options = OpenOptions { snapshot: snapshot.map(str::to_owned), ..OpenOptions::default() };
        open(&SourceSpec::Blob(BlobAddress::File(self.file())), &options)
    }

    fn open(&self) -> Arc<dyn Image> {
        self.write_url(&self.azurite.url("d", "r", LATER));
        self.open_at(None).expect("opened")
    }
}

fn read(source: &dyn UnitSource, at: usize, length_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; length_bytes];
    source.read_at(at as u64, &mut bytes).expect("read");
    bytes
}

/// Runs of data, joined.
fn runs(source: &dyn UnitSource) -> Vec<ByteRange> {
    let (mut at, mut runs) = (0, Vec::new());
    while let Some(range) = source.next_data(at).expect("asked") {
        runs.push(range);
        at = range.end();
    }
    runs
}

#[test]
fn a_blob_reads_as_the_disk_that_was_uploaded_and_holes_stay_holes() {
    let lab = Lab::new();
    let blob = lab.open();
    assert!(read(&*blob, 0, 24 * MIB) == lab.bytes);
    let mib = |from: u64, to: u64| ByteRange::new(from << 20, to << 20);
    // Uploaded in pieces of 4 MiB.
    assert_eq!(runs(&*blob), [mib(0, 12), mib(20, 24)]);
    lab.azurite.clear_pages("d", 4 << 20, 1 << 20);
    assert_eq!(runs(&*lab.open()), [mib(0, 4), mib(5, 12), mib(20, 24)]);
}

#[test]
fn a_snapshot_stays_what_it_was_and_the_blob_under_a_reader_is_noticed() {
    let lab = Lab::new();
    let blob = lab.open();
    let time = lab.azurite.snapshot("d");
    // A signature of the blob alone is none of its snapshots.
    let finding = lab.open_at(Some(&time)).err().expect("refused");
    assert_eq!(finding.code, Code::BlobNetworkDenied);
    assert!(finding.evidence.contains("not for this"), "{}", finding.evidence);
    lab.write_url(&lab.azurite.account_url("d"));
    let frozen = lab.open_at(Some(&time)).expect("opened");
    lab.azurite.write_pages("d", 0, &[9; 4096]);
    lab.azurite.clear_pages("d", 3 << 20, 1 << 20);
    let error = blob.read_at(0, &mut [0; 512]).expect_err("it changed");
    assert_eq!(error.code, Code::ChangedMeanwhile);
    assert!(read(&*frozen, 0, 24 * MIB) == lab.bytes);
    let changed = lab.open();
    assert_eq!(read(&*changed, 0, 4096), [9; 4096]);
    assert_eq!(read(&*changed, 3 * MIB, MIB), vec![0; MIB]);
    assert_ne!(frozen.identity().version, changed.identity().version);
}

#[test]
fn an_expired_signature_pauses_a_reader_until_the_file_has_another() {
    let lab = Lab::new();
    let soon = |seconds| {
        let at = std::time::SystemTime::now() + Duration::from_secs(seconds);
        let seconds = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        jiff::Timestamp::from_second(seconds).expect("a time").to_string()
    };
    let url = lab.azurite.url("d", "r", &soon(2));
    lab.write_url(&url);
    let blob = lab.open_at(None).expect("opened");
    // Read until it is refused, which only shows as a read that does not come back.
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                let bytes = read(&*blob, 3 * MIB, MIB);
                if sender.send((round, bytes)).is_err() {
                    return;
                }
            }
        });
        while done.recv_timeout(Duration::from_secs(1)).is_ok() {}
        assert_eq!(lab.open_at(None).err().expect("it has expired").code, Code::SourceDenied);
        lab.write_url(&lab.azurite.url("d", "r", LATER));
        let (_, bytes) = done.recv_timeout(Duration::from_secs(30)).expect("it goes on");
        assert!(bytes == lab.bytes[3 * MIB..4 * MIB]);
        drop(done);
    });
}

#[test]
fn a_signature_that_was_tampered_with_is_refused_and_not_repeated() {
    let lab = Lab::new();
    let url = lab.azurite.url("d", "r", LATER);
    let (head, sig) = url.rsplit_once("sig=").expect("signed");
    let tampered = if sig.starts_with('A') { "B" } else { "A" }.to_owned() + &sig[1..];
    lab.write_url(&format!("{head}sig={tampered}"));
    let finding = lab.open_at(None).err().expect("refused");
    assert!(matches!(finding.code, Code::SourceDenied | Code::BlobNetworkDenied), "{finding:?}");
    assert!(!format!("{finding:?}").contains(&tampered[..8]), "{finding:?}");
    lab.write_url(&lab.azurite.url("missing", "r", LATER));
    assert_eq!(lab.open_at(None).err().expect("not there").code, Code::BlobMissing);
}

#[test]
fn snapshots_are_made_listed_and_removed() {
    let lab = Lab::new();
    lab.write_url(&lab.azurite.account_url("d"));
    let foreign = lab.azurite.snapshot("d");
    let snapshots = BlobSnapshots::new(&BlobAddress::File(lab.file()), &[]).expect("a blob");
    let made = snapshots.create().expect("made");
    assert_ne!(made, foreign);
    assert_eq!(snapshots.list().expect("listed"), std::slice::from_ref(&made));
    assert!(read(&*lab.open_at(Some(&made)).expect("opened"), 0, 24 * MIB) == lab.bytes);
    snapshots.delete(&made).expect("removed");
    snapshots.delete(&made).expect("gone is gone");
    assert_eq!(snapshots.list().expect("listed"), Vec::<String>::new());
    assert!(lab.open_at(Some(&foreign)).is_ok(), "what is not ours stays");
}
