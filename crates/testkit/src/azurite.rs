//! Azurite, the emulator of Azure's storage, on a port of its own; and what fills its page blobs.
//!
//! It is started from `target/azurite`, which `tools/test` makes. Its page-range diff is wrong, its snapshots, signatures and
//! page ranges are not.
//!
//! **Invariant**: the process ends when the value is dropped, also while a failed test unwinds.

use crate::repository;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The account that every Azurite has, and its key, which is no secret.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const VERSION: &str = "2020-10-02";
const CONTAINER: &str = "disks";
/// Most bytes that one request may write.
const WRITE_MAX_BYTES: usize = 4 << 20;

/// A running emulator with one container.
#[derive(Debug)]
pub struct Azurite {
    process: Child,
    host: String,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Azurite {
    /// Starts it; what it holds lies in `folder`.
    pub fn start(folder: &Path) -> Self {
        let program =
            repository(env!("CARGO_MANIFEST_DIR")).join("target/azurite/node_modules/.bin/azurite-blob");
        let mut process = Command::new(&program)
            .args([
                "--disableTelemetry",
                "--skipApiVersionCheck",
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                "0",
            ])
            .arg("-l")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} ({error}): run tools/test once", program.display()));
        let lines = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut lines = lines.lines().map_while(Result::ok);
        let host = lines.find_map(|line| Some(line.split_once("listens on http://")?.1.trim().to_owned()));
        // It writes a line for each request; somebody has to take them.
        std::thread::spawn(move || lines.for_each(drop));
        let azurite = Self { process, host: host.expect("Azurite starts") };
        azurite.write("PUT", &format!("/{CONTAINER}?restype=container"), &[], &[]);
        azurite
    }

    /// Adds a page blob of cleared pages.
    pub fn create(&self, name: &str, length_bytes: u64) {
        let length = length_bytes.to_string();
        let headers = [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", length.as_str())];
        self.write("PUT", &format!("/{CONTAINER}/{name}"), &headers, &[]);
    }

    /// Adds a page blob that holds a file; zeros are left out.
    pub fn upload(&self, name: &str, path: &Path) {
        let mut file = File::open(path).expect("a file");
        let length_bytes = file.metadata().expect("a length").len();
        self.create(name, length_bytes);
        let mut buffer = vec![0; WRITE_MAX_BYTES];
        let mut at = 0;
        while at < length_bytes {
            let part = &mut buffer[..(length_bytes - at).min(WRITE_MAX_BYTES as u64) as usize];
            file.read_exact(part).expect("read");
            if part.iter().any(|&byte| byte != 0) {
                self.write_pages(name, at, part);
            }
            at += part.len() as u64;
        }
    }

    /// Writes whole pages, at most 4 MiB.
    pub fn write_pages(&self, name: &str, offset_bytes: u64, bytes: &[u8]) {
        self.pages(name, "update", offset_bytes, bytes.len() as u64, bytes);
    }

    /// Clears whole pages.
    pub fn clear_pages(&self, name: &str, offset_bytes: u64, length_bytes: u64) {
        self.pages(name, "clear", offset_bytes, length_bytes, &[]);
    }

    fn pages(&self, name: &str, what: &str, offset_bytes: u64, length_bytes: u64, body: &[u8]) {
        let range = format!("bytes={offset_bytes}-{}", offset_bytes + length_bytes - 1);
        let headers = [("x-ms-page-write", what), ("x-ms-range", range.as_str())];
        self.write("PUT", &format!("/{CONTAINER}/{name}?comp=page"), &headers, body);
    }

    /// Makes a snapshot; its time.
    pub fn snapshot(&self, name: &str) -> String {
        let head = self.write("PUT", &format!("/{CONTAINER}/{name}?comp=snapshot"), &[], &[]);
        let time = head.lines().find_map(|line| line.strip_prefix("x-ms-snapshot: "));
        time.expect("the snapshot's time").trim().to_owned()
    }

    /// The blob's URL, signed for these permissions until `expiry` (`2026-11-24T18:00:00Z`).
    pub fn url(&self, name: &str, permissions: &str, expiry: &str) -> String {
        let signed = format!(
            "{permissions}\n\n{expiry}\n/blob/{ACCOUNT}/{CONTAINER}/{name}\n\n\n\n{VERSION}\nb\n\n\n\n\n\n"
        );
        let sig = signature(&signed);
        let host = &self.host;
        format!(
            "http://{host}/{ACCOUNT}/{CONTAINER}/{name}?sv={VERSION}&sr=b&sp={permissions}&se={expiry}&sig={sig}"
        )
    }

    /// The blob's URL with all that an account may do with it, listing its container too.
    pub fn account_url(&self, name: &str) -> String {
        format!("http://{}/{ACCOUNT}/{CONTAINER}/{name}?{}", self.host, account_query())
    }

    /// Sends what changes something, on a connection of its own; the head of the answer.
    fn write(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let joint = if path.contains('?') { '&' } else { '?' };
        let target = format!("/{ACCOUNT}{path}{joint}{}", account_query());
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        head += &format!("x-ms-version: {VERSION}\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let exchange = || -> io::Result<String> {
            let mut stream = TcpStream::connect(&self.host)?;
            stream.write_all(&[(head.clone() + "\r\n").as_bytes(), body].concat())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = exchange().expect("Azurite answers");
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        answer
    }
}

/// A signature for everything in the account until 2099.
fn account_query() -> String {
    let (permissions, expiry) = ("rwdlacup", "2099-01-01T00:00:00Z");
    let sig = signature(&format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{expiry}\n\n\n{VERSION}\n"));
    format!("sv={VERSION}&ss=b&srt=sco&sp={permissions}&se={expiry}&sig={sig}")
}

/// A signature by the account's key, as a query may hold it.
fn signature(text: &str) -> String {
    let key = BASE64_STANDARD.decode(KEY).expect("the key is base64");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
    BASE64_STANDARD.encode(tag).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
