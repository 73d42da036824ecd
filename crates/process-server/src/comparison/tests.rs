use super::*;
use failback_blockio::Device as _;
use failback_engine::TrustedDigests as _;
use failback_model::{BlockSize, Digest, Generation};
use failback_testkit::MemoryDevice;
use std::path::PathBuf;

const BLOCK: u64 = 64 << 10;
const BLOCKS: u64 = 600;

/// Names these blocks.
struct Named(Vec<u64>);

impl ChangeFeed for Named {
    fn next_changed(&self, from_bytes: u64) -> Result<Option<failback_model::ByteRange>, DiskError> {
        let next = self.0.iter().find(|block| (*block + 1) * BLOCK > from_bytes);
        Ok(next.map(|block| failback_model::ByteRange::new(block * BLOCK, (block + 1) * BLOCK)))
    }
}

/// A source whose snapshots are told by their number, and the folder of what is known of it.
struct Lab {
    source: MemoryDevice,
    _folder: tempfile::TempDir,
    path: PathBuf,
    layout: Layout,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = MemoryDevice::new(BLOCKS * BLOCK);
        for block in 0..BLOCKS - 100 {
            source.write_at(block * BLOCK, &block.to_le_bytes().map(|byte| byte | 1)).expect("memory");
        }
        let layout = Layout::new(BLOCKS * BLOCK, BlockSize::DEFAULT).expect("a layout");
        Self { source, path: folder.path().join("disk0"), _folder: folder, layout }
    }

    fn write(&self, block: u64, byte: u8) {
        self.source.write_at(block * BLOCK + 9, &[byte]).expect("memory");
    }

    fn base(cycle: u64) -> Base {
        let root = Digest([cycle as u8; 32]).to_string();
        Base {
            epoch: 1,
            cycle,
            generation: cycle,
            root,
            pass_bytes: BLOCKS * BLOCK,
            block_bytes: 65_536,
            named: "x".into(),
            snapshot: None,
        }
    }

    fn start(&self, snapshot: &str, feed: Option<(u64, &[u64])>) -> Start {
        let fingerprint = Fingerprint::of_text(snapshot);
        let feed = feed.map(|(cycle, named)| {
            (Self::base(cycle), Box::new(Named(named.to_vec())) as Box<dyn ChangeFeed>)
        });
        let looking = Looking {
            source: &self.source,
            folder: &self.path,
            fingerprint: &fingerprint,
            layout: self.layout,
            cancel: &Cancel::default(),
        };
        looking.start(&Origin { feed: feed.ok_or(None) }).expect("started")
    }

    /// Scans what is not known, up to a block.
    fn scan(&self, start: &Start, below: u64) {
        let known = start.state.trusted().expect("known").ranges;
        for block in 0..below {
            if !known.iter().any(|run| run.start.0 <= block && block < run.end.0) {
                let blocks = BlockRange::new(block, block + 1);
                let (digests, _) = read_digests(&self.source, self.layout, blocks).expect("memory");
                start.state.scanned(blocks, Some(&digests)).expect("logged");
            }
        }
    }

    /// Scans the rest and seals; fails where what is known is not what lies there.
    #[track_caller]
    fn seal(&self, start: Start, cycle: u64) {
        self.scan(&start, BLOCKS);
        let all = self.layout.blocks();
        let trusted = start.state.trusted().expect("known");
        assert_eq!(trusted.ranges, [all]);
        let (now, _) = read_digests(&self.source, self.layout, all).expect("memory");
        let held = trusted.digests.digests(all).expect("read");
        let stale: Vec<_> = (0..BLOCKS).filter(|at| now[*at as usize] != held[*at as usize]).collect();
        assert!(stale.is_empty(), "stale: {stale:?}");
        start.state.sync().expect("synced");
        Lineage::sealed(Self::base(cycle), start.check_from).keep(&self.path).expect("kept");
    }
}

#[test]
fn what_a_cycle_that_came_to_nothing_scanned_is_scanned_again() {
    let lab = Lab::new();
    lab.seal(lab.start("snapshot 1", None), 1);
    // Cycle 2 scans blocks that change to and fro, and is given up.
    lab.write(3, 77);
    lab.write(300, 77);
    let second = lab.start("snapshot 2", Some((1, &[3, 300])));
    assert!(second.base.is_some() && second.comparison.how == How::Feed, "{:?}", second.comparison);
    lab.scan(&second, 200);
    drop(second);
    lab.write(3, 0);
    lab.write(5, 88);
    // The feed of cycle 3 starts from cycle 1 and need not name block 3; nor does a second try of the same snapshot.
    for attempt in 0..2 {
        let third = lab.start("snapshot 3", Some((1, &[5, 300])));
        assert!(third.base.is_none(), "some of the base's digests are gone");
        assert_eq!(third.comparison.how, if attempt == 0 { How::Feed } else { How::Resumed });
        if attempt == 1 {
            lab.seal(third, 3);
        }
    }
    let fourth = lab.start("snapshot 4", Some((3, &[])));
    assert!(fourth.base.is_some() && fourth.comparison.named_bytes == Some(0));
    lab.seal(fourth, 4);
}

#[test]
fn a_feed_from_another_base_or_for_another_length_is_not_believed() {
    let lab = Lab::new();
    lab.seal(lab.start("snapshot 1", None), 1);
    lab.write(9, 1);
    let other = lab.start("snapshot 2", Some((7, &[])));
    assert_eq!((other.comparison.how, other.base.is_none()), (How::Scan, true));
    assert_eq!(other.comparison.finding.as_ref().expect("why").code, "FB414");
    drop(other);
    assert_eq!(Lineage::of(&lab.path), None, "what is scanned now comes down from nothing that was sealed");
    lab.seal(lab.start("snapshot 2", Some((1, &[]))), 2);
}

#[test]
fn what_no_feed_names_is_noticed_where_it_is_looked_at_and_what_became_a_hole_counts_as_named() {
    let lab = Lab::new();
    lab.seal(lab.start("snapshot 1", None), 1);
    lab.source
        .zero(failback_model::ByteRange::new(40 * BLOCK, 42 * BLOCK), failback_blockio::Zeroing::Punch)
        .expect("memory");
    let second = lab.start("snapshot 2", Some((1, &[])));
    assert_eq!((second.comparison.how, second.comparison.named_bytes), (How::Feed, Some(2 * BLOCK)));
    lab.seal(second, 2);
    // 600 blocks are more than one check, and less than three.
    lab.write(20, 9);
    lab.write(280, 9);
    lab.write(480, 9);
    let mut cycle = 2;
    loop {
        let start = lab.start(&format!("lie {cycle}"), Some((cycle, &[])));
        cycle += 1;
        if start.comparison.how == How::Scan {
            assert_eq!(start.comparison.finding.as_ref().expect("why").code, "FB415");
            lab.seal(start, cycle);
            break;
        }
        assert!(cycle < 6, "the check goes around");
        Lineage::sealed(Lab::base(cycle), start.check_from).keep(&lab.path).expect("kept");
    }
}

#[test]
fn the_base_stays_what_it_was_while_the_next_state_is_scanned() {
    let lab = Lab::new();
    lab.seal(lab.start("snapshot 1", None), 1);
    let (before, _) = read_digests(&lab.source, lab.layout, lab.layout.blocks()).expect("memory");
    lab.write(7, 50);
    lab.source
        .zero(failback_model::ByteRange::new(8 * BLOCK, 9 * BLOCK), failback_blockio::Zeroing::Punch)
        .expect("memory");
    let start = lab.start("snapshot 2", Some((1, &[7, 8, 9])));
    lab.scan(&start, BLOCKS);
    let (base, digests) = start.base.as_ref().expect("it is at hand");
    assert!(base.is_at(Generation(1), Digest([1; 32])));
    assert!(digests.digests(lab.layout.blocks()).expect("read") == before);
    assert_eq!(
        digests.next_data(BlockIndex(8)).expect("read"),
        Some(BlockIndex(8)),
        "it held something then"
    );
}
