//! Time: each state of a connection ends. The clock is stopped once what needs real sockets stands, and then jumps.

use crate::site::{CLIENT, Site, cut, data, ordered};
use crate::stranger::Stranger;
use failback_model::Code;
use failback_model::limits::{GOODBYE_MAX, IDLE_MAX, PING_IDLE, SETUP_MAX};
use failback_transport::LinkEnd;
use failback_wire::Message;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, pause};

/// Time on the stopped clock until something has happened.
async fn takes(what: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    what.await;
    started.elapsed()
}

fn about(time: Duration) -> std::ops::Range<Duration> {
    time.saturating_sub(Duration::from_secs(1))..time + Duration::from_secs(3)
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let site = Site::new();
    let server = site.listen();
    let mut silent = TcpStream::connect(server.address).await.expect("connected");
    crate::site::wait_until(|| server.listener.stats().unknown == 1, String::new).await;
    pause();
    let took = takes(async {
        let _closed = silent.read(&mut [0; 1]).await;
    })
    .await;
    assert!(about(SETUP_MAX).contains(&took), "{took:?}");
    server.wait_failed(Code::TimedOut, 1).await;
}

#[tokio::test]
async fn a_handshake_that_trickles_is_closed() {
    let site = Site::new();
    let server = site.listen();
    let mut slow = TcpStream::connect(server.address).await.expect("connected");
    crate::site::wait_until(|| server.listener.stats().unknown == 1, String::new).await;
    pause();
    // The head of a ClientHello of 512 bytes, then a byte a second.
    let took = takes(async {
        use tokio::io::AsyncWriteExt;
        slow.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.expect("sent");
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if slow.write_all(&[0]).await.is_err() || slow.try_read(&mut [0; 1]).is_ok() {
                break;
            }
        }
    })
    .await;
    assert!(about(SETUP_MAX).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_first_frame_that_trickles_is_closed() {
    let site = Site::new();
    let server = site.listen();
    let mut slow = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
    pause();
    let frame = Message::Open(Box::new(crate::site::open(0))).encode();
    let took = takes(async {
        for byte in &frame.head()[..60] {
            use tokio::io::AsyncWriteExt;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if slow.0.write_all(&[*byte]).await.is_err()
                || slow.0.flush().await.is_err()
                || server.failed(Code::TimedOut) > 0
            {
                break;
            }
        }
    })
    .await;
    assert!(about(SETUP_MAX).contains(&took), "{took:?}");
    server.wait_failed(Code::TimedOut, 1).await;
}

#[tokio::test]
async fn a_frame_that_trickles_ends_the_link() {
    let site = Site::new();
    let server = site.listen();
    let (mut slow, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    let frame = data(0, vec![1; 1 << 20].into());
    slow.send(frame.head()).await;
    pause();
    let handle = target.handle();
    let took = takes(async {
        // Alive, byte by byte, but never done.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if handle.end().is_some() {
                break;
            }
            slow.send(&[1]).await;
        }
    })
    .await;
    assert!(about(IDLE_MAX).contains(&took), "{took:?}");
    assert_eq!(cut(handle.ended().await).code, Code::TimedOut);
}

#[tokio::test]
async fn a_slow_link_is_not_taken_for_a_dead_one() {
    let site = Site::new();
    let server = site.listen();
    let (mut slow, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    pause();
    // 1 MiB at 1 KiB a second: 17 minutes for one frame.
    let frame = data(0, vec![1; 1 << 20].into());
    slow.send(frame.head()).await;
    for piece in frame.payload().chunks(1024) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.send(piece).await;
    }
    let came = async {
        while target.input().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    came.await;
    assert!(target.handle().end().is_none());
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_gone() {
    let site = Site::new();
    let server = site.listen();
    let (mut mute, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    pause();
    let handle = target.handle();
    let took = takes(async {
        let error = cut(handle.ended().await);
        assert_eq!(error.code, Code::TimedOut, "{error}");
    })
    .await;
    assert!(about(IDLE_MAX).contains(&took), "{took:?}");
    // It was asked.
    assert!(matches!(mute.hear().await, Some(Message::Ping { .. })));
    assert!(crate::site::all(&target).await.is_empty());
}

#[tokio::test]
async fn an_idle_link_lives_as_long_as_both_ends() {
    let site = Site::new();
    let server = site.listen();
    let (client, target) = site.session(&server, 2).await;
    pause();
    for _ in 0..100 {
        tokio::time::sleep(IDLE_MAX).await;
        assert!(client.handle().end().is_none() && target.handle().end().is_none());
    }
    assert!(client.handle().stats().round_trip.is_some_and(|time| time < PING_IDLE));
    let handles = (client.handle(), target.handle());
    drop((client, target));
    assert!(matches!(handles.0.ended().await, LinkEnd::Goodbye));
    assert!(matches!(handles.1.ended().await, LinkEnd::Goodbye));
}

#[tokio::test]
async fn data_connections_that_do_not_join_end_the_link() {
    let site = Site::new();
    let server = site.listen();
    let (_stranger, _) = Stranger::session(&site, server.address, 2).await;
    let target = server.link().await;
    pause();
    let took = takes(async {
        let error = cut(target.handle().ended().await);
        assert_eq!(error.code, Code::TimedOut, "{error}");
    })
    .await;
    assert!(about(SETUP_MAX).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_goodbye_without_an_answer_is_not_waited_for_for_ever() {
    let site = Site::new();
    let server = site.listen();
    let (mut mute, _) = Stranger::session(&site, server.address, 0).await;
    let target = server.link().await;
    pause();
    let handle = target.handle();
    let took = takes(async {
        drop(target);
        cut(handle.ended().await);
    })
    .await;
    assert!(about(GOODBYE_MAX).contains(&took), "{took:?}");
    assert_eq!(mute.hear().await, Some(Message::Bye));
}

#[tokio::test]
async fn a_connector_does_not_wait_for_ever_either() {
    let site = Site::new();
    let server = site.listen();
    let mut options = site.options(&server);
    // Accepts, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    options.address = silent.local_addr().expect("an address").to_string();
    let connecting = tokio::spawn(async move {
        crate::site::refused(failback_transport::connect(&options, crate::site::open(0)).await)
    });
    let (_held, _) = silent.accept().await.expect("accepted");
    pause();
    let took = takes(async {
        let error = connecting.await.expect("no panic");
        assert_eq!(error.code, Code::TimedOut, "{error}");
    })
    .await;
    assert!(took < 2 * SETUP_MAX, "{took:?}");
}

#[tokio::test]
async fn a_pass_that_is_slow_to_read_does_not_lose_its_link() {
    let site = Site::new();
    let server = site.listen();
    let (client, target) = site.session(&server, 1).await;
    // More than the link holds for a pass: the rest waits at the other end.
    for number in 0..120 {
        assert!(client.sender().send(data(number, vec![1; 1 << 20].into())));
    }
    assert!(client.sender().send(ordered(1)));
    crate::site::wait_until(|| target.input().len() > 90, || format!("{}", target.input().len())).await;
    pause();
    tokio::time::sleep(10 * IDLE_MAX).await;
    assert!(client.handle().end().is_none() && target.handle().end().is_none());
    assert!(target.input().len() < 110, "the budget holds: {}", target.input().len());
    assert!(client.handle().stats().queued_bytes > 10 << 20);
    tokio::time::resume();
    // What the pass lets go makes room.
    let input = target.input().clone();
    let taking = tokio::task::spawn_blocking(move || input.iter().take(121).map(drop).count());
    assert_eq!(taking.await.expect("no panic"), 121);
}
