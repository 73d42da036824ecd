//! How fast: limits on the stopped clock, and options of sockets.

use crate::site::{SERVER, Server, Site, Welcoming, data, open};
use failback_transport::{ListenOptions, SocketOptions, Throttle, connect};
use std::time::Duration;
use tokio::time::{Instant, pause, sleep};

/// Waits on the stopped clock until so many frames came.
async fn came(target: &failback_transport::RemoteLink, count: usize) -> Duration {
    let started = Instant::now();
    for _ in 0..count {
        while target.input().try_recv().is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
    started.elapsed()
}

#[tokio::test]
async fn no_more_leaves_than_the_limit_allows() {
    let site = Site::new();
    for data_connections in [0, 3] {
        let server = site.listen();
        let mut options = site.options(&server);
        options.throttle = Throttle::new("1M".parse().expect("a schedule"));
        let (_, client) = connect(&options, open(data_connections)).await.expect("welcomed");
        let target = server.link().await;
        pause();
        let sender = client.sender();
        for number in 0..240 {
            assert!(sender.send(data(number, vec![1; 256 << 10].into())));
        }
        // 60 MiB at 1 MiB a second; the first frames of each connection leave at once.
        let took = came(&target, 240).await.as_secs_f64();
        assert!((57.0..62.0).contains(&took), "{data_connections}: {took} s");

        // Ten times as fast, from now on.
        client.handle().throttle().set("10M".parse().expect("a schedule"));
        for number in 0..240 {
            assert!(sender.send(data(number, vec![1; 256 << 10].into())));
        }
        let took = came(&target, 240).await.as_secs_f64();
        assert!((5.0..7.0).contains(&took), "{data_connections}: {took} s");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn links_may_share_a_limit() {
    let site = Site::new();
    let server = site.listen();
    let mut options = site.options(&server);
    options.throttle = Throttle::new("1M".parse().expect("a schedule"));
    let mut links = Vec::new();
    for _ in 0..2 {
        let (_, client) = connect(&options, open(1)).await.expect("welcomed");
        links.push((client, server.link().await));
    }
    pause();
    for (client, _) in &links {
        for number in 0..40 {
            assert!(client.sender().send(data(number, vec![1; 256 << 10].into())));
        }
    }
    let took = tokio::join!(came(&links[0].1, 40), came(&links[1].1, 40));
    let took = took.0.max(took.1).as_secs_f64();
    assert!((18.0..21.0).contains(&took), "20 MiB: {took} s");
}

#[tokio::test]
async fn options_of_sockets_are_read_back() {
    let site = Site::new();
    let wanted = SocketOptions {
        congestion: Some("reno".into()),
        send_buffer_bytes: Some(100_000),
        receive_buffer_bytes: Some(120_000),
    };
    let listening = ListenOptions { socket: wanted.clone(), ..ListenOptions::default() };
    let server = Server::start(site.tls(SERVER), listening, Welcoming::default());
    let mut options = site.options(&server);
    options.socket = wanted;
    let (_, client) = connect(&options, open(1)).await.expect("welcomed");
    let target = server.link().await;
    for link in [&client, &target] {
        for connection in link.handle().stats().connections {
            let socket = connection.socket;
            assert_eq!(socket.congestion, "reno");
            // Linux doubles what is asked for, for its own overhead.
            assert_eq!((socket.send_buffer_bytes, socket.receive_buffer_bytes), (200_000, 240_000));
            assert!(socket.is_nodelay && socket.is_keepalive);
        }
    }
}

#[tokio::test]
async fn an_option_that_this_host_lacks_costs_nothing_else() {
    let site = Site::new();
    let server = site.listen();
    let mut options = site.options(&server);
    options.socket.congestion = Some("no-such-thing".into());
    let (_, client) = connect(&options, open(1)).await.expect("welcomed");
    let stats = client.handle().stats();
    assert!(stats.connections.iter().all(|connection| connection.socket.congestion != "no-such-thing"));
    assert_eq!(stats.connections[0].index, None);
}

#[test]
fn buffers_hold_twice_what_is_under_way() {
    let gigabit = SocketOptions::default().for_link(125_000_000, Duration::from_millis(32), 4);
    assert_eq!(gigabit.send_buffer_bytes, Some(2_000_000));
    let slow = SocketOptions::default().for_link(1000, Duration::from_millis(1), 0);
    assert_eq!(slow.receive_buffer_bytes, Some(64 << 10));
    let absurd = SocketOptions::default().for_link(u64::MAX, Duration::from_secs(1000), 1);
    assert_eq!(absurd.receive_buffer_bytes, Some(64 << 20));
}
