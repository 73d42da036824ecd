//! Which data connections may join a session.

use crate::site::{CLIENT, Site, bulk, decoded, some};
use crate::stranger::Stranger;
use failback_model::{Code, SessionToken};
use failback_pki::Validity;
use failback_wire::{Join, Message};

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let site = Site::new();
    let server = site.listen();
    let (_stranger, welcome) = Stranger::session(&site, server.address, 2).await;
    let target = server.link().await;
    let mut token = welcome.token;
    token.0[15] ^= 1;
    for token in [token, SessionToken([0; 16])] {
        let mut second = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        second.say(&Message::Join(Join { version: welcome.version, token, index: 0 })).await;
        assert_eq!(second.refusal().await, Code::StaleSession);
    }
    assert!(target.handle().end().is_none(), "the session does not suffer");
}

#[tokio::test]
async fn tokens_are_random() {
    let site = Site::new();
    let server = site.listen();
    let mut tokens = std::collections::HashSet::new();
    for _ in 0..8 {
        let (_stranger, welcome) = Stranger::session(&site, server.address, 0).await;
        assert_ne!(welcome.token, SessionToken([0; 16]));
        assert!(tokens.insert(welcome.token));
    }
}

#[tokio::test]
async fn the_right_token_with_another_certificate_is_refused() {
    let site = Site::new();
    let other = "failback://process-server/other";
    site.issue(other, Validity::days(1));
    let server = site.listen();
    let (_stranger, welcome) = Stranger::session(&site, server.address, 1).await;
    let join = Join { version: welcome.version, token: welcome.token, index: 0 };
    let mut second = Stranger::connect(server.address, Some(&site.files(other))).await;
    second.say(&Message::Join(join.clone())).await;
    assert_eq!(second.refusal().await, Code::StaleSession);
    // A newer certificate of the same peer is another certificate.
    let files = site.files(CLIENT);
    let mut before = files.clone();
    (before.cert, before.key) = (site.path().join("cert.pem"), site.path().join("key.pem"));
    std::fs::copy(&files.cert, &before.cert).expect("copied");
    std::fs::copy(&files.key, &before.key).expect("copied");
    site.authority().renew(&crate::site::identity(CLIENT), Validity::days(1)).expect("renewed");
    let mut second = Stranger::connect(server.address, Some(&files)).await;
    second.say(&Message::Join(join.clone())).await;
    assert_eq!(second.refusal().await, Code::StaleSession);
    // The number is still free for who holds the right one.
    let mut second = Stranger::connect(server.address, Some(&before)).await;
    second.say(&Message::Join(join)).await;
    assert_eq!(second.hear().await, Some(Message::Joined { index: 0 }));
}

#[tokio::test]
async fn each_number_joins_once() {
    let site = Site::new();
    let server = site.listen();
    let (_stranger, welcome) = Stranger::session(&site, server.address, 2).await;
    let target = server.link().await;
    let join = |index| Message::Join(Join { version: welcome.version, token: welcome.token, index });
    let mut kept = Vec::new();
    for (index, joins) in [(1, true), (1, false), (2, false), (0, true), (0, false)] {
        let mut second = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
        second.say(&join(index)).await;
        if joins {
            assert_eq!(second.hear().await, Some(Message::Joined { index }));
            second.send(bulk(index.into()).head()).await;
            kept.push(second);
        } else {
            assert_eq!(second.refusal().await, Code::ProtocolViolation);
        }
    }
    assert_eq!(decoded(&some(&target, 2).await).len(), 2);
}

#[tokio::test]
async fn nobody_joins_a_session_that_has_ended() {
    let site = Site::new();
    let server = site.listen();
    let (mut stranger, welcome) = Stranger::session(&site, server.address, 1).await;
    let target = server.link().await;
    stranger.say(&Message::Bye).await;
    drop(stranger);
    target.handle().ended().await;
    let mut second = Stranger::connect(server.address, Some(&site.files(CLIENT))).await;
    second.say(&Message::Join(Join { version: welcome.version, token: welcome.token, index: 0 })).await;
    assert_eq!(second.refusal().await, Code::StaleSession);
}
