//! The fake of Azure's management over HTTP, and its snapshots as blobs of the fake service of page blobs: a disk is the blob of
//! its name.
//!
//! **Invariant**: a snapshot shows its disk as it was when the snapshot was asked for.

use super::{ArmReply, FakeArm, HOST};
use crate::blobs::BlobServer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The service; it ends with its process.
#[derive(Debug, Clone)]
pub struct ArmServer {
    url: String,
    fake: Arc<FakeArm>,
    blobs: BlobServer,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of each snapshot the blob, and the time of the blob's snapshot.
    snapshots: BTreeMap<String, (String, String)>,
    /// The snapshot that an operation gives access to.
    accesses: BTreeMap<String, String>,
}

impl ArmServer {
    /// Starts it on a free port of this host. Each request takes six seconds of the fake's time and none of ours.
    pub fn start(fake: Arc<FakeArm>, blobs: BlobServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Self { url, fake, blobs, known: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                // A client that breaks off ends its thread.
                std::thread::spawn(move || while server.serve(&stream).is_some() {});
            }
        });
        server
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let (method, target, body) = request(stream)?;
        let reply = self.answer(&method, &target, serde_json::from_slice(&body).ok().as_ref());
        let body = if reply.body.is_null() { String::new() } else { reply.body.to_string() };
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, body.len());
        reply.headers.iter().for_each(|(key, value)| head += &format!("{key}: {value}\r\n"));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()
    }

    fn answer(&self, method: &str, target: &str, body: Option<&Value>) -> ArmReply {
        self.fake.advance(Duration::from_secs(6));
        let mut reply = self.fake.handle(method, target, body);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let path = target.split('?').next().unwrap_or_default();
        let source = body.and_then(|body| body["properties"]["creationData"]["sourceResourceId"].as_str());
        if let (202, "PUT", Some(disk)) = (reply.status, method, source) {
            let blob = disk.rsplit('/').next().unwrap_or_default();
            known.snapshots.insert(path.into(), (blob.into(), self.blobs.snapshot(blob)));
        }
        if let Some(snapshot) = path.strip_suffix("/beginGetAccess") {
            let operation = reply.header("location").and_then(operation);
            operation.map(|id| known.accesses.insert(id.into(), snapshot.into()));
        }
        if let Some((blob, time)) = operation(target)
            .filter(|_| reply.body["accessSAS"].is_string())
            .and_then(|id| known.snapshots.get(known.accesses.get(id)?))
        {
            let url = format!("{}&snapshot={time}", self.blobs.url(blob));
            reply.body["accessSAS"] = url.into();
        }
        // Its URLs lead to the true host; here they stay, and nobody waits for its clock.
        reply.headers.retain(|(key, _)| *key != "retry-after");
        reply.headers.iter_mut().for_each(|(_, value)| *value = value.replace(HOST, ""));
        reply.headers.push(("retry-after", "0".into()));
        reply
    }
}

/// The operation that a URL asks about.
fn operation(url: &str) -> Option<&str> {
    url.split_once("/operations/")?.1.split('?').next()
}

fn request(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|bytes| *bytes > 0)?;
        match header.trim_end().split_once(": ") {
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = line.split(' ');
    Some((words.next()?.into(), words.next()?.into(), body))
}
