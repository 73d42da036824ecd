//! Certificates that change while links stand.

use crate::site::{CLIENT, SERVER, Site, cut, identity, open, ordered, refused, some};
use failback_model::Code;
use failback_pki::Validity;
use failback_transport::{Layer, ListenOptions, Tls, connect};
use std::fs;

#[tokio::test]
async fn a_revoked_certificates_links_are_closed_and_others_are_not() {
    let site = Site::new();
    let other = "failback://process-server/other";
    site.issue(other, Validity::days(1));
    let tls = site.tls(SERVER);
    let server = crate::site::Server::start(tls.clone(), ListenOptions::default(), Default::default());
    let (client, target) = site.session(&server, 2).await;
    let mut options = site.options(&server);
    options.tls = site.tls(other);
    let (_, second) = connect(&options, open(1)).await.expect("welcomed");
    let second_target = server.link().await;

    site.revoke(CLIENT);
    assert!(client.sender().send(ordered(1)));
    some(&target, 1).await;
    tls.reload().expect("reloaded");
    let error = cut(target.handle().ended().await);
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
    assert!(crate::site::all(&target).await.is_empty());
    cut(client.handle().ended().await);
    let error = refused(connect(&site.options(&server), open(1)).await);
    assert_eq!(error.code, Code::TlsFailed, "{error}");

    assert!(second.sender().send(ordered(2)));
    some(&second_target, 1).await;
    assert!(second_target.handle().end().is_none());
}

#[tokio::test]
async fn a_client_closes_its_link_to_a_revoked_server() {
    let site = Site::new();
    let server = site.listen();
    let options = site.options(&server);
    let (_, client) = connect(&options, open(1)).await.expect("welcomed");
    let _target = server.link().await;
    site.revoke(SERVER);
    options.tls.reload().expect("reloaded");
    assert_eq!(cut(client.handle().ended().await).code, Code::TlsFailed);
}

#[tokio::test]
async fn new_handshakes_use_the_new_certificate() {
    let site = Site::new();
    let tls = site.tls(SERVER);
    let server = crate::site::Server::start(tls.clone(), ListenOptions::default(), Default::default());
    let (client, target) = site.session(&server, 1).await;
    let before = tls.expires_at();
    site.authority().renew(&identity(SERVER), Validity::days(300)).expect("renewed");
    tls.reload().expect("reloaded");
    assert!(tls.expires_at() > before);
    let (_second, _second_target) = site.session(&server, 1).await;
    assert!(client.sender().send(ordered(1)));
    some(&target, 1).await;
}

#[tokio::test]
async fn files_that_do_not_do_change_nothing() {
    let site = Site::new();
    let other = Site::new();
    let tls = site.tls(SERVER);
    let server = crate::site::Server::start(tls.clone(), ListenOptions::default(), Default::default());
    let files = site.files(SERVER);
    let stranger = other.files(SERVER);
    let list = files.crl.clone().expect("a list");
    let read = |path: &std::path::Path| fs::read(path).expect("a file");
    let broken: Vec<(_, Vec<u8>)> = vec![
        (&files.cert, b"no certificate".to_vec()),
        (&files.cert, Vec::new()),
        (&files.cert, read(&files.cert)[..200].to_vec()),
        (&files.cert, read(&stranger.cert)),
        (&files.cert, read(&files.ca)),
        (&files.key, b"no key".to_vec()),
        (&files.key, read(&stranger.key)),
        (&files.ca, read(&stranger.ca)),
        (&files.ca, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
        (&list, b"no list".to_vec()),
        (&list, read(&files.cert)),
        (&files.ca, vec![b'x'; 5 << 20]),
    ];
    for (path, contents) in broken {
        let right = read(path);
        fs::write(path, &contents).expect("written");
        let error = tls.reload().expect_err("broken");
        assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Files), "{error}");
        assert!(Tls::load(&files).is_err());
        fs::write(path, right).expect("written");
        assert_eq!(tls.identity(), identity(SERVER));
        drop(site.session(&server, 1).await);
    }
    fs::remove_file(&list).expect("removed");
    let error = tls.reload().expect_err("broken");
    assert_eq!((error.code, error.layer), (Code::OpenFailed, Layer::Files), "{error}");
    assert!(error.to_string().contains("crl.pem"), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_no_longer_trusted_takes_its_links_along() {
    let (site, other) = (Site::new(), Site::new());
    let mut files = site.files(SERVER);
    let anchors = site.path().join("anchors.pem");
    let both = [site.files(SERVER).ca, other.files(SERVER).ca].map(|path| fs::read(path).expect("a file"));
    fs::write(&anchors, both.concat()).expect("written");
    (files.ca, files.crl) = (anchors.clone(), None);
    let tls = Tls::load(&files).expect("certificates");
    let server = crate::site::Server::start(tls.clone(), ListenOptions::default(), Default::default());
    // A client of the other authority, which trusts both.
    let mut options = site.options(&server);
    let mut theirs = other.files(CLIENT);
    (theirs.ca, theirs.crl) = (anchors.clone(), None);
    options.tls = Tls::load(&theirs).expect("certificates");
    let (_, client) = connect(&options, open(1)).await.expect("welcomed");
    let target = server.link().await;
    fs::copy(site.files(SERVER).ca, &anchors).expect("copied");
    tls.reload().expect("reloaded");
    assert_eq!(cut(target.handle().ended().await).code, Code::TlsFailed);
    cut(client.handle().ended().await);
}
