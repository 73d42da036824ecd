//! A peer that may, and means no good: a certificate of the site's authority, on the list of a disk, and then bytes that no
//! process server sends. Its session ends with the code that says so, its disk stays one that a pass brings home, the
//! daemon stays small, and a pass of another disk does not mind.

use super::{RESIDENT_MOST_BYTES, Slow, assert_equal};
use crate::sites::{Host, Stranger, job, merged, open, target_disk, target_machine};
use failback_model::{BlockIndex, BlockRange, Digest, PageSet};
use failback_service::control::Request;
use failback_service::event::Event;
use failback_wire::{BlockPatch, Data, Encoding, Hello, Message, Role};
use std::fs;

const STRANGER: &str = "failback://process-server/stranger";
const LENGTH_BYTES: u64 = 2 << 20;
const BLOCK_BYTES: u32 = 64 << 10;
const BLOCKS: u64 = LENGTH_BYTES / BLOCK_BYTES as u64;

/// A pass that runs, and beside it a machine that the stranger may write.
struct Lab {
    slow: Slow,
    source: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let mut slow = Slow::new(seed, 32 << 20, 2_500_000);
        let source = slow.sites.random_disk("theirs.raw", seed + 1, LENGTH_BYTES);
        let target = slow.sites.random_disk("theirs-target.raw", seed + 2, LENGTH_BYTES);
        let theirs = target_machine("db01", &[target_disk("disk1", &target)]);
        let machine = merged(theirs, &serde_json::json!({"allow": [STRANGER]}));
        slow.mt.order(&Request::RegisterMachine { job: job(), machine });
        slow.proxy.wait_for(2 << 20);
        slow.mt.forget();
        Self { slow, source, target }
    }

    fn session(&self) -> Stranger {
        Stranger::session(&self.slow.sites, STRANGER, open("db01", "disk1", LENGTH_BYTES))
    }

    /// Who greets, and has the digests of the whole disk.
    fn greeted(&self) -> Stranger {
        let mut stranger = self.session();
        stranger.say(&Message::Hello(hello()));
        stranger.say(&Message::DigestCredit { blocks: BLOCKS });
        stranger.hear_until("its digests", |message| match message {
            Message::Digests { first, digests } if first.0 + digests.len() as u64 / 16 == BLOCKS => Some(()),
            _ => None,
        });
        stranger
    }

    /// The other pass was not disturbed, and the stranger's disk is one that a pass brings home.
    fn finish(self) {
        let resident = self.slow.mt.resident_most_bytes();
        assert!(resident <= RESIDENT_MOST_BYTES, "{resident} bytes resident");
        let mut slow = self.slow;
        slow.ps.sealed("disk0");
        assert_equal(&slow.source, &slow.target);
        assert!(slow.ps.status().errors.is_empty(), "the pass was disturbed: {:?}", slow.ps.status().errors);
        let disk = crate::sites::source_disk("disk1", &self.source);
        let machine = slow.sites.source_machine("db01", &[disk]);
        let mut ps =
            slow.sites.process_server_as(STRANGER, &[machine], &serde_json::json!({}), Host::default());
        ps.order(&Request::Reprotect {
            job: job(),
            machine: crate::sites::machine("db01"),
            flags: failback_service::control::PassFlags { accept_mismatch: true, ..Default::default() },
        });
        ps.sealed("disk1");
        assert_equal(&self.source, &self.target);
    }
}

fn hello() -> Hello {
    Hello {
        digests_known: false,
        role: Role::Sending,
        length_bytes: LENGTH_BYTES,
        block_bytes: BLOCK_BYTES,
        has_seeds: false,
        is_new: false,
        verify: false,
    }
}

/// Contents of the first blocks, whole.
fn data(blocks: u64, encoding: Encoding, payload: Vec<u8>) -> Message {
    let (pages, zero) = (PageSet::first(BLOCK_BYTES as usize / 4096), PageSet::EMPTY);
    let patch = |block| BlockPatch { block: BlockIndex(block), digest: Digest([1; 32]), data: pages, zero };
    let patches = (0..blocks).map(patch).collect();
    Message::Data(Data { sequence: 0, patches, encoding, payload: payload.into() })
}

/// A header that claims what follows it.
fn header(kind: u8, body_bytes: u32, payload_bytes: u32) -> Vec<u8> {
    [vec![kind, 0, 0, 0], body_bytes.to_le_bytes().into(), payload_bytes.to_le_bytes().into()].concat()
}

/// A zstd frame of so many zeros, without their number in its head: 4 bytes for each 128 KiB.
fn bomb(bytes: usize) -> Vec<u8> {
    const PIECE: usize = 128 << 10;
    // Magic; a window of 1 MiB and nothing else in the head; then blocks of one repeated byte, the last one marked.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    let pieces = bytes / PIECE;
    for piece in 1..=pieces {
        let head = u32::from(piece == pieces) | 1 << 1 | (PIECE as u32) << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn bytes_that_no_process_server_sends_end_their_session_and_nothing_else() {
    let mut lab = Lab::new(1500);
    let before = fs::read(&lab.target).expect("reads");
    let page = Encoding::Zstd { content_bytes: BLOCK_BYTES };
    let attacks: [(&str, Vec<u8>, &str); 7] = [
        ("longer than a frame may be", header(7, 0, 2 << 20), "FB501"),
        ("gigabytes", header(7, u32::MAX, u32::MAX), "FB501"),
        ("no such kind", header(99, 0, 0), "FB501"),
        ("more than follows", [header(7, 64, 100_000), vec![0; 50_000]].concat(), "FB509"),
        ("fields that are none", [header(7, 8, 0), vec![0xff; 8]].concat(), "FB501"),
        (
            "a claim of gigabytes",
            bytes_of(&data(1, Encoding::Zstd { content_bytes: u32::MAX }, bomb(1 << 20))),
            "FB501",
        ),
        ("a claim of other pages", bytes_of(&data(2, page, bomb(1 << 20))), "FB501"),
    ];
    for (what, bytes, code) in attacks {
        println!("{what}");
        lab.slow.mt.forget();
        let mut stranger = lab.greeted();
        stranger.send(&bytes);
        if code == "FB509" {
            drop(stranger);
        } else {
            // It may hang up without a word, but says nothing else.
            let said = std::iter::from_fn(|| stranger.hear()).find_map(|message| match message {
                Message::Error { code, .. } => Some(code),
                _ => None,
            });
            assert!(said.is_none_or(|said| said == code), "{what}");
        }
        lab.slow.mt.broken("disk1", code);
    }
    assert!(fs::read(&lab.target).expect("reads") == before, "something was written");
    lab.finish();
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let frame = message.encode();
    [frame.head().as_ref(), frame.payload()].concat()
}

#[test]
fn messages_in_an_order_that_the_protocol_forbids_end_their_session_and_nothing_else() {
    let mut lab = Lab::new(1510);
    let whole = || data(1, Encoding::Raw, vec![0; BLOCK_BYTES as usize]);
    let zero = |blocks| Message::Zero { sequence: 0, ranges: vec![blocks] };
    let attacks = [
        ("contents before a greeting", false, vec![whole()]),
        ("a seal before a greeting", false, vec![Message::Seal { root: Digest::ZERO, messages: 0 }]),
        ("a second greeting", true, vec![Message::Hello(hello())]),
        (
            "a greeting of another disk",
            false,
            vec![Message::Hello(Hello { length_bytes: 1 << 40, ..hello() })],
        ),
        ("what only the other end says", true, vec![Message::Sealed { root: Digest::ZERO }]),
        ("a number twice", true, vec![zero(BlockRange::new(0, 1)), zero(BlockRange::new(1, 2))]),
        ("blocks past the end", true, vec![zero(BlockRange::new(BLOCKS, BLOCKS + 1))]),
        ("a second opening", true, vec![Message::Open(Box::new(open("db01", "disk1", LENGTH_BYTES)))]),
        ("credit for more than was used", true, vec![Message::DigestCredit { blocks: u64::MAX }]),
    ];
    for (what, is_greeted, messages) in attacks {
        println!("{what}");
        lab.slow.mt.forget();
        let mut stranger = if is_greeted { lab.greeted() } else { lab.session() };
        messages.iter().for_each(|message| stranger.say(message));
        lab.slow.mt.broken("disk1", "FB501");
    }
    lab.finish();
}

#[test]
fn contents_that_unfold_to_gigabytes_are_not_unfolded() {
    let mut lab = Lab::new(1520);
    let before = fs::read(&lab.target).expect("reads");
    let mut stranger = lab.greeted();
    let resident = lab.slow.mt.resident_most_bytes();
    // What it claims is what its pages take.
    let content_bytes = 16 * BLOCK_BYTES;
    stranger.say(&data(16, Encoding::Zstd { content_bytes }, bomb(8 << 30)));
    let missing = stranger.hear_until("an answer", |message| match message {
        Message::Written { sequence: 0, missing } => Some(missing.len()),
        _ => None,
    });
    assert_eq!(missing, 16, "none of it was written");
    let grown = lab.slow.mt.resident_most_bytes() - resident;
    assert!(grown < 32 << 20, "{grown} bytes more are resident");
    // Who goes on all the same can't seal what it did not bring.
    stranger.say(&Message::Seal { root: Digest([1; 32]), messages: 1 });
    stranger.hear_until("the roots differ", |message| {
        matches!(message, Message::ChunkDigests { .. }).then_some(())
    });
    lab.slow.mt.forget();
    drop(stranger);
    lab.slow.mt.broken("disk1", "FB509");
    assert!(fs::read(&lab.target).expect("reads") == before, "something was written");
    lab.finish();
}

#[test]
fn a_peer_of_another_protocol_version_is_told_both_and_disturbs_nobody() {
    let mut lab = Lab::new(1530);
    let mut stranger = Stranger::connect(&lab.slow.sites, STRANGER);
    let mut asked = open("db01", "disk1", LENGTH_BYTES);
    (asked.version_min, asked.version_max) = (70, 79);
    stranger.say(&Message::Open(Box::new(asked)));
    let Some(Message::Error { code, message }) = stranger.hear() else { panic!("a refusal") };
    assert_eq!(code, "FB503");
    let told = lab.slow.mt.wait("the refusal is told", |event| match event {
        Event::PeerRefused { peer: Some(peer), finding, .. } if peer == STRANGER => Some(finding.clone()),
        _ => None,
    });
    assert_eq!(told.code, "FB503");
    for said in [&message, &told.evidence, &lab.slow.mt.log()] {
        assert!(said.contains("70 to 79") && said.contains("1 to 1"), "both are named: {said}");
    }
    while lab.slow.mt.status().errors.get("FB503") != Some(&1) {
        lab.slow.mt.moment();
    }
    lab.finish();
}
