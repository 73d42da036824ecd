//! What a session is for: frames that cross, whole, in their order, until a goodbye.

use crate::site::{Server, Site, Welcoming, all, bulk, data, decoded, open, ordered, refused, some};
use bytes::Bytes;
use failback_model::Code;
use failback_transport::{LinkEnd, ListenOptions, Refusal, Throttle, connect};
use failback_wire::Message;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_cross_both_ways_over_any_number_of_connections() {
    for data_connections in [0, 1, 4] {
        let site = Site::new();
        let server = site.listen();
        let (client, target) = site.session(&server, data_connections).await;
        const COUNT: u64 = 2000;
        for (from, to) in [(&client, &target), (&target, &client)] {
            let sender = from.sender();
            for number in 0..COUNT {
                assert!(sender.send(ordered(number)) && sender.send(bulk(number)));
            }
            let messages = decoded(&some(to, 2 * COUNT as usize).await);
            let in_order: Vec<u64> = messages
                .iter()
                .filter_map(|message| match message {
                    Message::DigestCredit { blocks } => Some(*blocks),
                    _ => None,
                })
                .collect();
            assert_eq!(in_order, (0..COUNT).collect::<Vec<_>>());
            let any_order: HashSet<u64> = messages
                .iter()
                .filter_map(|message| match message {
                    Message::Zero { sequence, .. } => Some(*sequence),
                    _ => None,
                })
                .collect();
            assert_eq!(any_order.len(), COUNT as usize);
        }
        let stats = client.handle().stats();
        assert_eq!(stats.connections.len(), 1 + usize::from(data_connections));
        assert!(stats.connections.iter().all(|connection| connection.socket.is_nodelay));
        let sent: u64 = stats.connections.iter().map(|connection| connection.sent_frames).sum();
        assert!(sent >= 2 * COUNT, "{sent}");
        let (ours, theirs) = (client.handle(), target.handle());
        drop((client, target));
        assert!(matches!(ours.ended().await, LinkEnd::Goodbye));
        assert!(matches!(theirs.ended().await, LinkEnd::Goodbye));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_a_goodbye_arrives() {
    for data_connections in [0, 3] {
        let site = Site::new();
        let server = site.listen();
        let (client, target) = site.session(&server, data_connections).await;
        let payload = Bytes::from(vec![7; 1 << 20]);
        let sender = client.sender();
        for number in 0..40 {
            assert!(sender.send(data(number, payload.clone())) && sender.send(ordered(number)));
        }
        drop(client);
        assert!(!sender.send(ordered(0)), "nothing goes in after the goodbye");
        let frames = all(&target).await;
        assert_eq!(frames.len(), 80);
        assert!(frames.iter().all(|frame| frame.payload().is_empty() || frame.payload() == &payload));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_every_size_arrive_whole() {
    let site = Site::new();
    let server = site.listen();
    let (client, target) = site.session(&server, 2).await;
    let sizes = [0, 1, 4083, 4084, 16_383, 16_384, 65_535, 65_536, 262_144, 1 << 20, (2 << 20) - 64];
    for (number, size) in sizes.into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|i| (i * 31 + number) as u8).collect();
        assert!(client.sender().send(data(number as u64, payload.into())));
    }
    for frame in some(&target, sizes.len()).await {
        let payload = frame.payload();
        let number = sizes.iter().position(|&size| size == payload.len()).expect("a size that was sent");
        assert!(payload.iter().enumerate().all(|(i, &byte)| byte == (i * 31 + number) as u8), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_with_its_code_and_words() {
    let site = Site::new();
    let refusal = Refusal { code: Code::UnknownDisk, message: "no disk d of machine m".into() };
    let how = Welcoming { refusal: Some(refusal), ..Welcoming::default() };
    let server = Server::start(site.tls(crate::site::SERVER), ListenOptions::default(), how);
    let error = refused(connect(&site.options(&server), open(1)).await);
    assert_eq!(error.code, Code::UnknownDisk);
    assert!(error.to_string().contains("no disk d of machine m"), "{error}");
    assert_eq!(error.to_finding().remedy, Code::UnknownDisk.remedy());
    server.wait_failed(Code::UnknownDisk, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_done_about_the_other_ends_disk_says_where() {
    let site = Site::new();
    let refusal = Refusal { code: Code::OpenFailed, message: "/dev/x does not exist".into() };
    let how = Welcoming { refusal: Some(refusal), ..Welcoming::default() };
    let server = Server::start(site.tls(crate::site::SERVER), ListenOptions::default(), how);
    let finding = refused(connect(&site.options(&server), open(1)).await).to_finding();
    let there = format!("there, at {}", crate::site::SERVER);
    assert!(finding.remedy.starts_with(&there), "{finding:?}");
    assert!(finding.remedy.ends_with(Code::OpenFailed.remedy()), "{finding:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_grants_no_more_connections_than_it_allows() {
    let site = Site::new();
    let options = ListenOptions { data_connections_max: 2, ..ListenOptions::default() };
    let how = Welcoming { granted: Some(9), ..Welcoming::default() };
    let server = Server::start(site.tls(crate::site::SERVER), options, how);
    let (welcome, client) = connect(&site.options(&server), open(8)).await.expect("welcomed");
    assert_eq!(welcome.data_connections, 2);
    assert_eq!(client.handle().stats().connections.len(), 3);
    drop(server.link().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sessions_at_once_do_not_mix() {
    let site = Site::new();
    let server = site.listen();
    let mut sessions = Vec::new();
    for number in 0..6 {
        let (client, target) = site.session(&server, 2).await;
        assert!(client.sender().send(bulk(number)));
        sessions.push((client, target));
    }
    for (number, (_, target)) in sessions.iter().enumerate() {
        let messages = decoded(&some(target, 1).await);
        assert!(matches!(messages[0], Message::Zero { sequence, .. } if sequence == number as u64));
    }
    assert_eq!(server.listener.stats().known, 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_link_still_carries_control_at_once() {
    let site = Site::new();
    let server = site.listen();
    for data_connections in [0, 2] {
        let mut options = site.options(&server);
        options.throttle = Throttle::new("1K".parse().expect("a schedule"));
        let (_, client) = connect(&options, open(data_connections)).await.expect("welcomed");
        let target = server.link().await;
        let sender = client.sender();
        // The first takes the bucket an hour into debt.
        for number in 0..4 {
            assert!(sender.send(data(number, vec![1; 1 << 20].into())));
        }
        some(&target, 1).await;
        assert!(sender.send(ordered(5)));
        let messages = decoded(&some(&target, 1).await);
        assert_eq!(messages, [Message::DigestCredit { blocks: 5 }]);
        assert!(client.handle().stats().queued_bytes >= 2 << 20);
        // The limit goes while they wait.
        client.handle().throttle().set("unlimited".parse().expect("a schedule"));
        some(&target, 3).await;
    }
}
