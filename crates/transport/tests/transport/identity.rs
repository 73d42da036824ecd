//! Who is let in: authorities, identities, validity, revocation, on either side.

use crate::site::{CLIENT, SERVER, Server, Site, Welcoming, identity, open, refused};
use failback_model::Code;
use failback_pki::Validity;
use failback_transport::{Layer, ListenOptions, Tls, TransportError, connect};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);

fn expired() -> Validity {
    Validity::between(SystemTime::now() - HOUR, SystemTime::now() - HOUR / 2)
}

fn in_an_hour() -> Validity {
    Validity::between(SystemTime::now() + HOUR, SystemTime::now() + 2 * HOUR)
}

/// What a client is told, with its certificates and the server's.
async fn told(site: &Site, server: Tls, client: Tls) -> (TransportError, Server) {
    let server = Server::start(server, ListenOptions::default(), Welcoming::default());
    let mut options = site.options(&server);
    options.tls = client;
    (refused(connect(&options, open(1)).await), server)
}

#[tokio::test]
async fn another_authority_is_trusted_by_neither_side() {
    let (site, other) = (Site::new(), Site::new());
    let (error, server) = told(&site, site.tls(SERVER), other.tls(CLIENT)).await;
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
    assert!(error.to_string().contains("another authority"), "{error}");
    // The client found out first; it said so.
    server.wait_failed(Code::TlsFailed, 1).await;

    // A client that trusts the server, but is not trusted by it.
    let mut files = other.files(CLIENT);
    let both = site.path().join("both.pem");
    let anchors =
        [other.files(CLIENT).ca, site.files(CLIENT).ca].map(|path| std::fs::read(path).expect("a file"));
    std::fs::write(&both, anchors.concat()).expect("written");
    (files.ca, files.crl) = (both, None);
    let (error, _server) = told(&site, site.tls(SERVER), Tls::load(&files).expect("certificates")).await;
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
    assert!(error.to_string().contains("authority that is not trusted there"), "{error}");
}

#[tokio::test]
async fn the_wrong_server_is_recognized() {
    let site = Site::new();
    site.issue("failback://master-target/other", Validity::days(1));
    let (error, _server) = told(&site, site.tls("failback://master-target/other"), site.tls(CLIENT)).await;
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Identity), "{error}");
    assert!(
        error
            .to_string()
            .contains("the other end is failback://master-target/other, not failback://master-target/site"),
        "{error}"
    );
}

#[tokio::test]
async fn the_listener_learns_who_connects() {
    let site = Site::new();
    site.issue("failback://operator/anna", Validity::days(1));
    let server = site.listen();
    let mut options = site.options(&server);
    options.tls = site.tls("failback://operator/anna");
    let (_, client) = connect(&options, open(1)).await.expect("welcomed");
    let target = server.link().await;
    assert_eq!(target.peer(), &identity("failback://operator/anna"));
    assert_eq!(client.peer(), &identity(SERVER));
}

#[tokio::test]
async fn certificates_out_of_their_time_are_refused() {
    for (validity, word) in [(expired(), "expired"), (in_an_hour(), "not yet valid")] {
        let site = Site::new();
        site.issue("failback://process-server/late", validity);
        let (error, server) = told(&site, site.tls(SERVER), site.tls("failback://process-server/late")).await;
        assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
        assert!(error.to_string().contains("refused this end's certificate"), "{error}");
        server.wait_failed(Code::TlsFailed, 1).await;

        site.revoke(SERVER);
        site.issue(SERVER, validity);
        let (error, _server) = told(&site, site.tls(SERVER), site.tls(CLIENT)).await;
        assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn the_own_certificates_end_is_known() {
    let site = Site::new();
    let tls = site.tls(SERVER);
    let until = tls.expires_at().duration_since(SystemTime::now()).expect("in the future");
    assert!(until < 30 * 24 * HOUR && until > 30 * 24 * HOUR - HOUR, "{until:?}");
    assert_eq!(tls.identity(), identity(SERVER));
}

#[tokio::test]
async fn the_revoked_are_refused_on_either_side() {
    let site = Site::new();
    site.revoke(CLIENT);
    let (error, server) = told(&site, site.tls(SERVER), site.tls(CLIENT)).await;
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
    assert!(error.to_string().contains("it was revoked"), "{error}");
    server.wait_failed(Code::TlsFailed, 1).await;

    let site = Site::new();
    site.revoke(SERVER);
    let (error, _server) = told(&site, site.tls(SERVER), site.tls(CLIENT)).await;
    assert_eq!((error.code, error.layer), (Code::TlsFailed, Layer::Tls), "{error}");
    assert!(error.to_string().contains("was revoked"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_as_it_is() {
    let site = Site::new();
    let server = site.listen();
    let mut options = site.options(&server);
    drop(server);
    options.address = "127.0.0.1:1".into();
    let error = refused(connect(&options, open(1)).await);
    assert_eq!((error.code, error.layer), (Code::ConnectionLost, Layer::Tcp), "{error}");
    options.address = "no-such-host.invalid:9443".into();
    let error = refused(connect(&options, open(1)).await);
    assert_eq!(error.layer, Layer::Address, "{error}");
}
