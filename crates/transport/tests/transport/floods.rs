//! Many connections at once.

use crate::site::{CLIENT, SERVER, Server, Site, Welcoming, open, ordered, refused, some, wait_until};
use crate::stranger::Stranger;
use failback_model::Code;
use failback_model::limits::UNKNOWN_CONNECTIONS_MAX;
use failback_transport::{ListenOptions, connect};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn silent_connections_are_bounded_and_keep_nobody_out() {
    let site = Site::new();
    let server = site.listen();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    wait_until(|| server.listener.stats().accepted == 200, || format!("{:?}", server.listener.stats())).await;
    let stats = server.listener.stats();
    assert_eq!(stats.unknown, UNKNOWN_CONNECTIONS_MAX);
    assert_eq!(stats.displaced, 200 - UNKNOWN_CONNECTIONS_MAX as u64);
    // The oldest are closed.
    assert!(matches!(idle[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
    let (client, target) = site.session(&server, 4).await;
    assert!(client.sender().send(ordered(1)));
    some(&target, 1).await;
    assert!(server.listener.stats().unknown <= UNKNOWN_CONNECTIONS_MAX);
    drop(idle);
    wait_until(|| server.listener.stats().unknown == 0, || format!("{:?}", server.listener.stats())).await;
}

#[tokio::test]
async fn idle_handshakes_behind_tls_are_bounded_too() {
    let site = Site::new();
    let server = site.listen();
    let files = site.files(CLIENT);
    let mut idle = Vec::new();
    for _ in 0..UNKNOWN_CONNECTIONS_MAX + 10 {
        idle.push(Stranger::connect(server.address, Some(&files)).await);
    }
    idle[0].hear_out().await;
    let (client, target) = site.session(&server, 1).await;
    assert!(client.sender().send(ordered(1)));
    some(&target, 1).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let site = Site::new();
    let options = ListenOptions { connections_max: 3, ..ListenOptions::default() };
    let server = Server::start(site.tls(SERVER), options, Welcoming::default());
    let (client, target) = site.session(&server, 2).await;
    let error = refused(connect(&site.options(&server), open(0)).await);
    assert_eq!(error.code, Code::TooManyConnections, "{error}");
    let ended = target.handle();
    drop((client, target));
    ended.ended().await;
    wait_until(|| server.listener.stats().known == 0, || format!("{:?}", server.listener.stats())).await;
    drop(site.session(&server, 2).await);
}

#[tokio::test]
async fn a_session_that_gets_only_some_of_its_connections_gets_none() {
    let site = Site::new();
    let options = ListenOptions { connections_max: 3, ..ListenOptions::default() };
    let server = Server::start(site.tls(SERVER), options, Welcoming::default());
    let error = refused(connect(&site.options(&server), open(4)).await);
    assert_eq!(error.code, Code::TooManyConnections, "{error}");
    assert!(crate::site::all(&server.link().await).await.is_empty());
    wait_until(|| server.listener.stats().known == 0, || format!("{:?}", server.listener.stats())).await;
}
