//! Bytes that nobody who means well would send.

use crate::site::{CLIENT, Site, bulk, cut, data, ordered};
use crate::stranger::Stranger;
use failback_model::Code;
use failback_model::limits::{CONTROL_INPUT_MAX_BYTES, FRAME_OVERHEAD_BYTES};
use failback_wire::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A header that claims what follows it.
fn header(kind: u8, body_bytes: u32, payload_bytes: u32) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(body_bytes.to_le_bytes());
    bytes.extend(payload_bytes.to_le_bytes());
    bytes
}

#[tokio::test]
async fn what_is_not_tls_is_closed() {
    let site = Site::new();
    let server = site.listen();
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0xff, 0xff], &[0; 100]]
    {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        // It may be closed while this end still writes.
        let _written = stream.write_all(bytes).await;
        let _written = stream.shutdown().await;
        let mut rest = Vec::new();
        let _read = stream.read_to_end(&mut rest).await;
        assert!(rest.len() < 64, "an alert at most");
    }
    // A port scanner.
    for _ in 0..20 {
        drop(TcpStream::connect(server.address).await.expect("connected"));
    }
    crate::site::wait_until(
        || server.listener.stats().unknown == 0 && server.listener.stats().accepted == 24,
        || format!("{:?}", server.listener.stats()),
    )
    .await;
    let (client, _target) = site.session(&server, 1).await;
    assert!(client.sender().send(ordered(1)));
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_nowhere() {
    let site = Site::new();
    let server = site.listen();
    let mut stranger = Stranger::connect(server.address, None).await;
    assert_eq!(stranger.hear().await, None);
    server.wait_failed(Code::TlsFailed, 1).await;
}

#[tokio::test]
async fn a_first_frame_that_is_too_large_is_not_read() {
    let site = Site::new();
    let server = site.listen();
    for first in [header(18, 1 << 20, 0), header(18, u32::MAX, u32::MAX), header(18, 0, 16 << 10)] {
        let mut stranger = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        stranger.send(&first).await;
        assert_eq!(stranger.hear().await, None);
    }
    server.wait_failed(Code::ProtocolViolation, 3).await;
}

#[tokio::test]
async fn a_first_frame_of_another_kind_is_refused() {
    let site = Site::new();
    let server = site.listen();
    for frame in [ordered(1), bulk(1), Message::Ping { nonce: 1 }.encode(), Message::Bye.encode()] {
        let mut stranger = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        stranger.send(frame.head()).await;
        assert_eq!(stranger.refusal().await, Code::ProtocolViolation);
    }
    for bytes in [header(99, 0, 0), header(18, 3, 0), vec![18, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut stranger = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        stranger.send(&bytes).await;
        stranger.send(b"xyz").await;
        assert_eq!(stranger.hear().await, None);
    }
    server.wait_failed(Code::ProtocolViolation, 7).await;
}

#[tokio::test]
async fn a_frame_that_lies_about_its_length_ends_the_link() {
    let site = Site::new();
    let server = site.listen();
    for (lie, code) in [
        // More than a frame may have.
        (header(7, 0, 2 << 20), Code::ProtocolViolation),
        (header(7, u32::MAX, u32::MAX), Code::ProtocolViolation),
        // No such message, and reserved bytes.
        (header(200, 0, 0), Code::ProtocolViolation),
        (vec![7, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], Code::ProtocolViolation),
        // More than follows before the goodbye.
        (header(7, 0, 1000), Code::ConnectionLost),
    ] {
        let (mut stranger, _) = Stranger::session(&site, server.address, 0).await;
        let target = server.link().await;
        stranger.send(&lie).await;
        let _closed = stranger.0.shutdown().await;
        let error = cut(target.handle().ended().await);
        assert_eq!(error.code, code, "{error}");
        assert!(target.input().is_empty());
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_in_a_frame_ends_the_input() {
    let site = Site::new();
    let server = site.listen();
    let (mut stranger, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    stranger.send(ordered(1).head()).await;
    let frame = data(0, vec![1; 100_000].into());
    stranger.send(frame.head()).await;
    stranger.send(&frame.payload()[..50_000]).await;
    drop(stranger);
    let frames = crate::site::all(&target).await;
    assert_eq!(frames.len(), 1, "what came whole");
    let error = cut(target.handle().ended().await);
    assert_eq!(error.code, Code::ConnectionLost, "{error}");
    assert!(!target.sender().send(ordered(2)));
}

#[tokio::test]
async fn frames_on_the_wrong_connection_end_the_link() {
    let site = Site::new();
    let server = site.listen();
    // Bulk on a control connection that has data connections beside it.
    let (mut stranger, welcome) = Stranger::session(&site, server.address, 1).await;
    let target = server.link().await;
    let mut second = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
    let join = failback_wire::Join { version: welcome.version, token: welcome.token, index: 0 };
    second.say(&Message::Join(join)).await;
    assert_eq!(second.hear().await, Some(Message::Joined { index: 0 }));
    stranger.send(bulk(1).head()).await;
    assert_eq!(cut(target.handle().ended().await).code, Code::ProtocolViolation);

    for frame in [ordered(1), Message::Ping { nonce: 1 }.encode(), Message::Bye.encode()] {
        let (_stranger, welcome) = Stranger::session(&site, server.address, 1).await;
        let target = server.link().await;
        let mut second = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        let join = failback_wire::Join { version: welcome.version, token: welcome.token, index: 0 };
        second.say(&Message::Join(join)).await;
        assert_eq!(second.hear().await, Some(Message::Joined { index: 0 }));
        second.send(frame.head()).await;
        assert_eq!(cut(target.handle().ended().await).code, Code::ProtocolViolation);
    }
}

#[tokio::test]
async fn set_up_twice_ends_the_link() {
    let site = Site::new();
    let server = site.listen();
    let (mut stranger, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    stranger.say(&Message::Open(Box::new(crate::site::open(0)))).await;
    assert_eq!(cut(target.handle().ended().await).code, Code::ProtocolViolation);
}

#[tokio::test]
async fn an_error_that_the_peer_sends_before_it_goes_is_not_lost() {
    let site = Site::new();
    let server = site.listen();
    let (mut stranger, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    let last = Message::Error { code: "FB203".into(), message: "disk full".into() };
    stranger.say(&last).await;
    // The stranger goes without reading what this end goes on to send.
    drop(stranger);
    for number in 0..50 {
        target.sender().send(data(number, vec![1; 1 << 20].into()));
    }
    assert_eq!(crate::site::decoded(&crate::site::all(&target).await), [last]);
    assert_eq!(cut(target.handle().ended().await).code, Code::ConnectionLost);
}

#[tokio::test]
async fn many_tiny_frames_cost_no_more_than_a_few_large_ones() {
    const FRAMES: usize = 80_000;
    let site = Site::new();
    let server = site.listen();
    let (mut stranger, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    let flood = tokio::spawn(async move {
        let many: Vec<u8> = (0..1000).flat_map(|number| ordered(number).head().to_vec()).collect();
        for _ in 0..FRAMES / 1000 {
            stranger.send(&many).await;
        }
        stranger
    });
    let most = CONTROL_INPUT_MAX_BYTES / FRAME_OVERHEAD_BYTES;
    let waits = || target.input().len();
    crate::site::wait_until(|| waits() > most * 9 / 10, || waits().to_string()).await;
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(waits() <= most, "{}", waits());
    // They are held back, not lost.
    let input = target.input().clone();
    let taking = tokio::task::spawn_blocking(move || input.iter().take(FRAMES).map(drop).count());
    assert_eq!(taking.await.expect("no panic"), FRAMES);
    drop(flood.await.expect("no panic"));
}
