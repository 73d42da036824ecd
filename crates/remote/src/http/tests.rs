use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

const SECRET: &str = "sig=SECRET";

/// A server that answers each connection once with `answer`; what it was asked comes back.
fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/a/b?x=1&{SECRET}", listener.local_addr().expect("bound"));
    let asked = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).expect("a head");
        }
        (&stream).write_all(answer.as_bytes()).expect("sent");
        head
    });
    (address, asked)
}

fn get(url: &str) -> Request {
    Request::new(Method::GET, SecretUrl::parse(url).expect("a URL"))
}

fn http() -> Http {
    Http::new(&HttpOptions::default()).expect("a client")
}

#[test]
fn no_url_shows_its_query_and_no_secret_header_its_value() {
    let url = SecretUrl::parse("https://h:8/c/b?snapshot=1&sig=SECRET#SECRET").expect("a URL");
    assert_eq!(url.to_string(), "https://h:8/c/b");
    let request = Request::new(Method::GET, url)
        .with_secret("authorization", "Bearer SECRET")
        .expect("a header's text");
    assert!(!format!("{request:?}").contains("SECRET"), "{request:?}");
    for wrong in ["https://SECRET@h/", "ftp://h/SECRET", "SECRET", "https:///?SECRET"] {
        assert!(!SecretUrl::parse(wrong).expect_err(wrong).contains("SECRET"));
    }
}

#[test]
fn no_error_repeats_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/a?{SECRET}", listener.local_addr().expect("bound"));
    drop(listener);
    let error = http().send(get(&url)).expect_err("nobody listens");
    assert!(matches!(&error, HttpError::Unreachable(words) if words.contains("refused")), "{error}");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    let (url, asked) = serve("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour");
    let error = http().send(get(&url)).expect("an answer").fill(&mut [0; 8]).expect_err("it broke off");
    assert!(matches!(error, HttpError::Cut(_)), "{error}");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    assert!(asked.join().expect("served").contains(SECRET), "the service does get it");
}

#[test]
fn a_redirect_is_an_answer_and_takes_no_secret_along() {
    let (url, asked) = serve(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n",
    );
    let answer = http().send(get(&url)).expect("an answer");
    assert_eq!((answer.status(), answer.retry_after()), (StatusCode::FOUND, Some(Duration::from_secs(7))));
    asked.join().expect("served");
}

#[test]
fn a_body_is_taken_up_to_its_bound_only() {
    let (url, asked) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12345678");
    let error = http().send(get(&url)).expect("an answer").body(7).expect_err("too long");
    assert_eq!(error, HttpError::TooLong(7));
    asked.join().expect("served");
    let (url, asked) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12345678");
    assert_eq!(http().send(get(&url)).expect("an answer").body(8).expect("it fits"), b"12345678");
    asked.join().expect("served");
}

/// A TLS server of one connection with a certificate of its own.
fn serve_tls(folder: &Path) -> (String, PathBuf, std::thread::JoinHandle<()>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).expect("written");
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("bound").port());
    let served = std::thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = listener.accept().expect("a client");
            let session = rustls::ServerConnection::new(Arc::new(config.clone())).expect("a session");
            let mut tls = rustls::StreamOwned::new(session, stream);
            let mut head = [0; 4096];
            // A client that does not trust it breaks off here.
            if tls.read(&mut head).is_ok_and(|read| read > 0) {
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("sent");
            }
        }
    });
    (url, ca, served)
}

#[test]
fn a_server_is_trusted_by_an_extra_authority_and_otherwise_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, ca, served) = serve_tls(folder.path());
    let error = http().send(get(&url)).expect_err("nobody vouches for it");
    assert!(matches!(&error, HttpError::Unreachable(words) if words.contains("certificate")), "{error}");
    let trusting = Http::new(&HttpOptions { ca_file: Some(ca) }).expect("a client");
    assert_eq!(trusting.send(get(&url)).expect("an answer").body(9).expect("a body"), b"ok");
    served.join().expect("served");
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "nothing").expect("written");
    let finding = Http::new(&HttpOptions { ca_file: Some(path.clone()) }).expect_err("refused");
    assert_eq!((finding.code, finding.place.path), (Code::OpenFailed, Some(path)));
}
