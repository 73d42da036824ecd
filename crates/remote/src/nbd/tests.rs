//! The client against servers that do what no real one does when it is asked to: scripts of bytes.

use super::pool::Patience;
use super::*;
use std::io::{Cursor, Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// A server whose words stand beforehand.
struct Script {
    says: Cursor<Vec<u8>>,
    heard: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.says.read(buffer)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.heard.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An export of 1 MiB that is read in requests of 4 bytes.
fn reading(says: Vec<u8>) -> Transmission<Script> {
    let export = Export {
        length_bytes: 1 << 20,
        flags: 0,
        min_block_bytes: 1,
        request_bytes: 4,
        is_structured: true,
        context: Some(7),
    };
    Transmission::new(Script { says: Cursor::new(says), heard: Vec::new() }, export)
}

fn simple(cookie: u64, error: u32, data: &[u8]) -> Vec<u8> {
    [&wire::SIMPLE_REPLY.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes(), data].concat()
}

fn chunk(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Vec<u8> {
    let head =
        [&wire::STRUCTURED_REPLY.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes()].concat();
    [&head[..], &cookie.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

fn data(flags: u16, cookie: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    chunk(flags, wire::chunk::OFFSET_DATA, cookie, &[&offset.to_be_bytes()[..], bytes].concat())
}

fn hole(flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    chunk(
        flags,
        wire::chunk::OFFSET_HOLE,
        cookie,
        &[&offset.to_be_bytes()[..], &length.to_be_bytes()].concat(),
    )
}

#[test]
fn replies_in_any_order_and_in_pieces_make_the_data() {
    let says = [
        data(0, 3, 18, b"kl"),
        data(1, 2, 14, b"efgh"),
        hole(0, 1, 12, 2),
        simple(4, 0, b"z"),
        data(0, 1, 10, b"ab"),
        chunk(1, wire::chunk::NONE, 1, b""),
        hole(1, 3, 20, 2),
    ];
    let mut buffer = [0xaa; 13];
    let mut server = reading(says.concat());
    server.read(10, &mut buffer).expect("read");
    assert_eq!(&buffer, b"ab\0\0efghkl\0\0z");
    assert_eq!(server.stream().heard.len(), 4 * 28, "four requests");
}

#[test]
fn an_error_ends_the_call_once_all_requests_are_answered() {
    let said = [&5_u32.to_be_bytes()[..], &4_u16.to_be_bytes(), b"bad\n"].concat();
    let says = [
        data(0, 1, 0, b"ab"),
        chunk(1, wire::chunk::ERROR, 1, &said),
        simple(2, 5, b""),
        data(1, 3, 0, b"next"),
    ];
    let mut server = reading(says.concat());
    let failed = server.read(0, &mut [0; 8]).expect_err("it fails");
    assert!(matches!(&failed, NbdError::Answered(_)) && failed.to_string().contains("bad? ("), "{failed}");
    let mut buffer = [0; 4];
    server.read(0, &mut buffer).expect("the connection is in order");
    assert_eq!(&buffer, b"next");
    let gone = reading(simple(1, wire::ESHUTDOWN, b"")).read(0, &mut [0; 4]).expect_err("it stops");
    assert!(matches!(gone, NbdError::Lost(_)), "{gone}");
}

#[test]
fn what_breaks_the_protocol_is_never_taken_for_data() {
    let status = |bytes: &[u32]| {
        let bytes: Vec<_> = bytes.iter().flat_map(|word| word.to_be_bytes()).collect();
        chunk(1, wire::chunk::BLOCK_STATUS, 1, &bytes)
    };
    for (says, what) in [
        (data(1, 2, 0, b"abcd"), "a cookie that is not out"),
        (data(1, 0, 0, b"abcd"), "a cookie from before"),
        (data(1, 1, 1, b"abcd"), "data behind the request"),
        (data(1, 1, u64::MAX, b"abcd"), "data before the request"),
        (data(1, 1, 0, b"abc"), "too little data"),
        ([data(0, 1, 0, b"abcd"), data(1, 1, 2, b"cd")].concat(), "data twice"),
        (hole(1, 1, 0, 5), "a hole behind the request"),
        (hole(1, 1, 0, 0), "an empty hole"),
        (data(1, 1, 0, b""), "no data"),
        (chunk(1, wire::chunk::OFFSET_DATA, 1, b"abc"), "no offset"),
        (chunk(0, wire::chunk::NONE, 1, b""), "nothing that goes on"),
        (chunk(1, 4711, 1, b""), "a kind that nobody knows"),
        (chunk(1, wire::chunk::ERROR, 1, &[0, 0, 0, 0, 0, 0]), "an error without a number"),
        (chunk(1, wire::chunk::ERROR, 1, &[0, 0, 0, 5, 0, 9]), "words that are cut off"),
        (status(&[7, 4, 0]), "extents that were not asked for"),
        (vec![0; 16], "no reply at all"),
    ] {
        let error = reading(says).read(0, &mut [0; 4]).expect_err(what);
        assert!(matches!(error, NbdError::Broken(_)), "{what}: {error}");
    }
    for (says, what) in [
        (status(&[8, 4, 0]), "another context"),
        (status(&[7]), "no extent"),
        (status(&[7, 0, 0]), "an empty extent"),
        (status(&[7, 4]), "half an extent"),
        (simple(1, 0, b""), "no extents"),
    ] {
        let error = reading(says).extents(0, 4).expect_err(what);
        assert!(matches!(error, NbdError::Broken(_)), "{what}: {error}");
    }
    let mut huge = chunk(1, wire::chunk::BLOCK_STATUS, 1, b"");
    huge[16..].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = reading(huge).extents(0, 4).expect_err("4 GiB of extents");
    assert!(error.to_string().contains("at most"), "{error}");
}

#[test]
fn a_silent_server_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nbd.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let uri = NbdUri::parse(&format!("nbd+unix:///?socket={}", path.display())).expect("a URI");
    let short = Duration::from_millis(50);
    let patience = Patience { setup: short, silence: short, reconnect: short };
    // It lets us in and says nothing, with and without a greeting.
    let silent = NbdDisk::open_with(&uri, 1, patience).expect_err("silent");
    assert_eq!(silent.code, Code::SourceUnreachable, "{silent}");
    let entering = std::thread::spawn(move || {
        let _before = listener.accept().expect("the client from before");
        let (mut stream, _) = listener.accept().expect("a client");
        let mut says = [&wire::GREETING.to_be_bytes()[..], &wire::OPTION.to_be_bytes(), &[0, 3]].concat();
        let reply = |option: u32, kind: u32, data: &[u8]| {
            let head =
                [&wire::OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
            [&head[..], &(data.len() as u32).to_be_bytes(), data].concat()
        };
        says.extend(reply(wire::option::STRUCTURED_REPLY, wire::reply::UNSUPPORTED, b""));
        says.extend(reply(wire::option::GO, wire::reply::INFO, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3]));
        says.extend(reply(wire::option::GO, wire::reply::ACK, b""));
        stream.write_all(&says).expect("told");
        (listener, stream)
    });
    let disk = NbdDisk::open_with(&uri, 1, patience).expect("it was let in");
    let _open = entering.join().expect("no panic");
    let begun = Instant::now();
    let silent = disk.read_at(0, &mut [0; 512]).expect_err("silent");
    assert_eq!(silent.code, Code::SourceUnreachable, "{silent}");
    assert!(silent.to_string().contains("silent"), "{silent}");
    assert!(begun.elapsed() < Duration::from_secs(20), "bounded by its patience");
}
