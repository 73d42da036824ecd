//! The same over HTTP: the client's requests as bytes, tokens, and URLs that would lead a token astray.

use failback_model::{Code, DiskId, Finding, MachineId, PointLabel};
use failback_remote::arm::{Arm, AzureDisk, HttpArm, ManagedSnapshots, Method, Request};
use failback_remote::entra::{TokenSource, Tokens};
use failback_remote::http::{Http, HttpOptions};
use failback_testkit::{ArmReply, FakeArm};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute";

/// What a server was asked: line of the request, token, body.
type Asked = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A server of the kind that answers by a function; it lives as long as the test.
fn serve(answer: impl Fn(&str, &str, &str, Option<&Value>) -> ArmReply + Send + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            while let Some((line, token, body)) = request(&stream) {
                log.lock().expect("whole").push((line.clone(), token.clone(), body.clone()));
                let mut words = line.split(' ');
                let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let reply = answer(method, target, &token, serde_json::from_slice(&body).ok().as_ref());
                if send(&stream, &reply).is_err() {
                    break;
                }
            }
        }
    });
    (url, asked)
}

fn request(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut token, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|bytes| *bytes > 0)?;
        let header = header.trim_end();
        match header.split_once(": ") {
            Some((key, value)) if key.eq_ignore_ascii_case("authorization") => token = value.into(),
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            Some(_) => {}
            None if header.is_empty() => break,
            None => return None,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim_end().into(), token, body))
}

fn send(mut stream: &TcpStream, reply: &ArmReply) -> std::io::Result<()> {
    let body = if reply.body.is_null() { String::new() } else { reply.body.to_string() };
    let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", reply.status, body.len());
    reply.headers.iter().for_each(|(key, value)| head += &format!("{key}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n{body}").as_bytes())
}

fn arm(url: &str, source: TokenSource) -> HttpArm {
    let http = Http::new(&HttpOptions::default()).expect("a client");
    let tokens = Tokens::new(source, http.clone(), url);
    HttpArm::new(http, url, tokens, || false, |_: &Finding| {}).expect("a service")
}

fn shell(script: String) -> TokenSource {
    TokenSource::Command(vec!["/bin/sh".into(), "-c".into(), script])
}

#[test]
fn a_cycle_over_http_renews_a_token_that_was_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = FakeArm::new();
    let machine = format!("{GROUP}/virtualMachines/web01");
    fake.add_machine(&machine, "Standard_D4s_v5", "ReadOnly");
    for name in ["os", "data"] {
        fake.add_disk(&format!("{GROUP}/disks/{name}"), Some(&machine), "Premium_LRS", 64 << 30);
    }
    // Its URLs lead to the true host; here they stay with the server, and nobody waits for its clock.
    let (url, asked) = serve(move |method, target, token, body| {
        if token == "Bearer T1" {
            return ArmReply { status: 401, ..ArmReply::default() };
        }
        fake.advance(Duration::from_secs(6));
        let mut reply = fake.handle(method, target, body);
        reply.headers.retain(|(key, _)| *key != "retry-after");
        reply.headers.push(("retry-after", "0".into()));
        let stay = |text: &str| text.replace("https://management.azure.com", "");
        reply.headers.iter_mut().for_each(|(_, value)| *value = stay(value));
        if let Some(next) = reply.body["nextLink"].as_str().map(stay) {
            reply.body["nextLink"] = next.into();
        }
        reply
    });
    let runs = folder.path().join("runs");
    let script = format!("echo x >> {0}; echo T$(wc -l < {0})", runs.display());
    let disks = ["os", "data"].map(|name| {
        let disk = AzureDisk::parse(&format!("{GROUP}/disks/{name}")).expect("a disk");
        (DiskId::new(name).expect("an id"), disk)
    });
    let (machine, notes) = (MachineId::new("web01").expect("an id"), folder.path().join("notes.json"));
    let service = Arc::new(arm(&url, shell(script)));
    let states = ManagedSnapshots::open(service, machine, disks.into(), &notes).expect("opened");
    let taken = states.take(1).expect("taken");
    assert_eq!(taken.label, PointLabel::CrashConsistent);
    let access = states.access(&taken.states[1].id, None).expect("it is read");
    assert!(access.url.expose().query().is_some_and(|query| query.contains("sig=SECRET")));
    states.retire(&[]).expect("all of it goes");
    let asked = asked.lock().expect("whole");
    assert_eq!(asked.iter().filter(|(_, token, _)| token == "Bearer T1").count(), 1);
    assert!(asked[1..].iter().all(|(_, token, _)| token == "Bearer T2"), "one more token is enough");
    let put = asked.iter().find(|(line, ..)| line.starts_with("PUT") && line.contains("/restorePoints/"));
    let body: Value = serde_json::from_slice(&put.expect("a restore point was asked for").2).expect("JSON");
    assert_eq!(body["properties"]["consistencyMode"], "CrashConsistent");
}

#[test]
fn a_url_of_another_service_gets_no_token() {
    let (elsewhere, asked) = serve(|_, _, _, _| ArmReply { status: 200, ..ArmReply::default() });
    let (url, _) = serve(|_, _, _, _| ArmReply { status: 200, ..ArmReply::default() });
    let service = arm(&url, shell("echo SECRET".into()));
    let refused = service.send(&Request::look(&format!("{elsewhere}/operations/1?api-version=1")));
    assert_eq!(refused.expect_err("it leads elsewhere").code, Code::CloudFailed);
    assert!(asked.lock().expect("whole").is_empty());
    let reply = service.send(&Request::new(Method::Get, "/subscriptions/s", "1")).expect("an answer");
    assert_eq!(reply.status, 200);
}

#[test]
fn what_the_cloud_says_is_told_with_its_code_and_without_a_signature() {
    let (url, _) = serve(|_, _, _, _| ArmReply {
        status: 400,
        headers: Vec::new(),
        body: serde_json::json!({"error": {"code": "InvalidParameter", "message": "not https://h/b?sig=SECRET&x=1"}}),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let disk = AzureDisk::parse(&format!("{GROUP}/disks/os")).expect("a disk");
    let disks = vec![(DiskId::new("os").expect("an id"), disk)];
    let machine = MachineId::new("web01").expect("an id");
    let service = Arc::new(arm(&url, shell("echo T".into())));
    let states = ManagedSnapshots::open(service, machine, disks, &folder.path().join("n")).expect("opened");
    let refused = states.take(1).expect_err("it is refused");
    assert_eq!(refused.code, Code::CloudFailed);
    assert!(
        refused.evidence.contains("InvalidParameter: not https://h/b?sig=...&x=1"),
        "{}",
        refused.evidence
    );
    assert!(refused.evidence.contains("GET /subscriptions/s/resourceGroups/g"), "{}", refused.evidence);
}

#[cfg(feature = "azure_identity")]
mod identity {
    use super::*;
    use failback_remote::entra::Identity;

    fn issuer() -> (String, Asked) {
        serve(|_, _, _, _| ArmReply {
            status: 200,
            headers: Vec::new(),
            body: serde_json::json!({"access_token": "T", "expires_in": "3599", "token_type": "Bearer"}),
        })
    }

    fn bearer(identity: Identity) -> Result<String, Finding> {
        let http = Http::new(&HttpOptions::default()).expect("a client");
        let tokens = Tokens::new(TokenSource::Identity(identity), http, "https://storage.azure.com");
        (0..2)
            .map(|_| tokens.bearer().map(|token| token.header()))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat())
    }

    #[test]
    fn a_machine_asks_once_for_the_service_it_needs() {
        let (url, asked) = issuer();
        let token =
            bearer(Identity::machine(Some("id-1")).at(&format!("{url}/metadata/identity/oauth2/token")));
        assert_eq!(token.expect("a token"), "Bearer TBearer T");
        let asked = asked.lock().expect("whole");
        let line = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com&client_id=id-1 HTTP/1.1";
        assert_eq!(asked.iter().map(|(line, ..)| line.as_str()).collect::<Vec<_>>(), [line]);
    }

    #[test]
    fn an_application_proves_who_it_is_by_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("proof");
        std::fs::write(&file, "a+b c\n").expect("written");
        for (identity, proof) in [
            (Identity::secret("t-1", "c-1", &file), "client_secret=a%2Bb+c"),
            (Identity::federated("t-1", "c-1", &file), "client_assertion=a%2Bb+c"),
        ] {
            assert!(!format!("{identity:?}").contains("a+b"));
            let (url, asked) = issuer();
            bearer(identity.at(&url)).expect("a token");
            let asked = asked.lock().expect("whole");
            assert!(asked[0].0.starts_with("POST /t-1/oauth2/v2.0/token "), "{}", asked[0].0);
            let form = String::from_utf8(asked[0].2.clone()).expect("text");
            assert!(
                form.ends_with(proof) && form.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default"),
                "{form}"
            );
        }
    }

    #[test]
    fn a_refusal_is_named_by_its_code() {
        let (url, _) = serve(|_, _, _, _| ArmReply {
            status: 401,
            headers: Vec::new(),
            body: serde_json::json!({"error": "invalid_client", "error_description": "SECRET"}),
        });
        let refused = bearer(Identity::machine(None).at(&url)).expect_err("refused");
        assert_eq!(refused.code, Code::SourceDenied);
        assert!(refused.evidence.contains("invalid_client") && !refused.evidence.contains("SECRET"));
    }
}
