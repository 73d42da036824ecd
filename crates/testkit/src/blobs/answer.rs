//! What the fake says to a request.

use super::{Blob, BlobDisk, BlobFault, State};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::ops::Range;

/// A request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) blob: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
}

/// An answer; of a body that is cut only half is sent.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) length_bytes: u64,
    pub(super) is_data: bool,
    pub(super) is_cut: bool,
}

impl Asked {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let blob = path.splitn(4, '/').nth(3).unwrap_or_default();
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            method: method.into(),
            blob: blob.into(),
            query: query.map(|(key, value)| (key.into(), decoded(value))).collect(),
            headers: BTreeMap::new(),
        }
    }

    fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn range(&self, length_bytes: u64) -> Option<Range<u64>> {
        let (first, last) = self.header("x-ms-range")?.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && first < length_bytes).then(|| first..(last + 1).min(length_bytes))
    }
}

fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/").replace("%21", "!")
}

impl Answer {
    fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, length_bytes: body.len() as u64, body, ..Self::default() }
    }

    fn refused(status: u16, code: &str) -> Self {
        // As the service does, it quotes what nobody should repeat.
        let body = format!("<Error><Code>{code}</Code><Message>sig=S1 was refused</Message></Error>");
        Self::of(status, body).with("x-ms-error-code", code)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(super) fn answer(state: &mut State, asked: &Asked) -> Answer {
    if asked.header("x-ms-version").is_none_or(|version| version < "2020-10-02") {
        return Answer::refused(400, "InvalidHeaderValue");
    }
    if asked.query("comp") == Some("list") {
        return list(state, asked);
    }
    let token = state.token.clone();
    let Some(blob) = state.blobs.get(&asked.blob) else { return Answer::refused(404, "BlobNotFound") };
    let is_let_in = match &token {
        Some(token) => asked.header("authorization") == Some(&format!("Bearer {token}")),
        None => asked.query("sig") == Some(&format!("S{}", blob.signature)),
    };
    match (is_let_in, token) {
        (false, Some(_)) => {
            return Answer::refused(401, "NoAuthenticationInformation")
                .with("WWW-Authenticate", "Bearer authorization_uri=https://login/");
        }
        (false, None) => return Answer::refused(403, "AuthenticationFailed"),
        (true, _) => {}
    }
    match (asked.method.as_str(), asked.query("comp"), asked.query("snapshot")) {
        ("PUT", Some("snapshot"), None) => {
            let is_marked = asked.header("x-ms-meta-failback").is_some();
            let time = state.snapshot(&asked.blob, is_marked);
            Answer::of(201, "").with("x-ms-snapshot", time)
        }
        ("DELETE", None, Some(time)) => match state.blob(&asked.blob).snapshots.remove(time) {
            Some(_) => Answer::of(202, ""),
            None => Answer::refused(404, "SnapshotNotFound"),
        },
        ("GET" | "HEAD", comp @ (None | Some("pagelist")), _) => read(state, asked, comp.is_some()),
        _ => Answer::refused(400, "UnsupportedHttpVerb"),
    }
}

/// Properties, page ranges and bytes.
fn read(state: &mut State, asked: &Asked, is_list: bool) -> Answer {
    let is_data = asked.method == "GET" && !is_list;
    let fault = if is_data { state.faults.pop_front() } else { None };
    match fault {
        Some(BlobFault::Busy(status, after)) => {
            let refused = Answer::refused(status, "ServerBusy");
            return match after {
                Some(seconds) => refused.with("Retry-After", seconds.to_string()),
                None => refused,
            };
        }
        Some(BlobFault::Refused(status, code, challenge)) => {
            let refused = Answer::refused(status, code);
            return match challenge {
                Some(challenge) => refused.with("WWW-Authenticate", challenge),
                None => refused,
            };
        }
        Some(BlobFault::Expire) => {
            state.blob(&asked.blob).signature += 1;
            return Answer::refused(403, "AuthenticationFailed");
        }
        Some(BlobFault::Change) => {
            let etag = state.tick();
            state.blob(&asked.blob).etag = etag;
        }
        Some(BlobFault::Cut | BlobFault::Damage | BlobFault::None) | None => {}
    }
    let (results_max, lies) = (state.results_max, state.lies.clone());
    let blob = state.blob(&asked.blob);
    let (disk, etag) = match asked.query("snapshot") {
        None => (&blob.disk, blob.etag),
        Some(time) => match blob.snapshots.get(time) {
            Some(snapshot) => (&snapshot.disk, snapshot.etag),
            None => return Answer::refused(404, "SnapshotNotFound"),
        },
    };
    let etag = format!("\"0x{etag:X}\"");
    if asked.header("if-match").is_some_and(|wanted| wanted != etag) {
        return Answer::refused(412, "ConditionNotMet");
    }
    let answer = match (asked.method.as_str(), is_list) {
        ("HEAD", _) => Answer { status: 200, length_bytes: disk.length_bytes(), ..Answer::default() },
        (_, true) => pages(blob, disk, asked, results_max, &lies),
        (_, false) => data(disk, asked, fault.as_ref()),
    };
    answer.with("ETag", etag).with("x-ms-blob-type", "PageBlob")
}

fn data(disk: &BlobDisk, asked: &Asked, fault: Option<&BlobFault>) -> Answer {
    let Some(range) = asked.range(disk.length_bytes()) else { return Answer::refused(416, "InvalidRange") };
    let wants_sum = asked.header("x-ms-range-get-content-md5").is_some();
    if wants_sum && range.end - range.start > 4 << 20 {
        return Answer::refused(400, "OutOfRangeQueryParameterValue");
    }
    let mut answer = Answer::of(206, disk.read(range));
    answer.is_data = true;
    if wants_sum {
        let sum = BASE64_STANDARD.encode(Md5::digest(&answer.body));
        answer = answer.with("Content-MD5", sum);
    }
    match fault {
        Some(BlobFault::Damage) => answer.body[0] ^= 1,
        Some(BlobFault::Cut) => answer.is_cut = true,
        _ => {}
    }
    answer
}

/// Page ranges, or their diff.
fn pages(blob: &Blob, disk: &BlobDisk, asked: &Asked, results_max: usize, lies: &[Range<u64>]) -> Answer {
    let by_url = asked.header("x-ms-previous-snapshot-url");
    let by_url =
        by_url.map(|url| Asked::parse(&format!("GET {url}")).query("snapshot").unwrap_or("?").to_owned());
    let base = asked.query("prevsnapshot").map(str::to_owned).or(by_url);
    let mut entries: Vec<(Range<u64>, &str)> = match base {
        None => disk.pages().into_iter().map(|range| (range, "PageRange")).collect(),
        Some(time) => {
            let Some(base) = blob.snapshots.get(&time) else {
                return Answer::refused(409, "PreviousSnapshotNotFound");
            };
            let (written, cleared) = disk.diff(&base.disk);
            let written = written.into_iter().map(|range| (range, "PageRange"));
            let lied =
                |range: &Range<u64>| lies.iter().any(|lie| lie.start < range.end && range.start < lie.end);
            let cleared = cleared.into_iter().map(|range| (range, "ClearRange"));
            written.chain(cleared).filter(|(range, _)| !lied(range)).collect()
        }
    };
    entries.sort_by_key(|(range, _)| range.start);
    let window = asked.range(disk.length_bytes()).unwrap_or(0..disk.length_bytes());
    let from = asked.query("marker").and_then(|marker| marker.parse().ok()).unwrap_or(window.start);
    entries.retain(|(range, _)| range.end > from && range.start < window.end);
    let asked_max = asked.query("maxresults").and_then(|max| max.parse().ok()).unwrap_or(usize::MAX);
    let shown = entries.len().min(results_max).min(asked_max);
    let mut xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>".to_owned();
    for (range, kind) in &entries[..shown] {
        let (start, end) = (range.start.max(window.start), range.end.min(window.end) - 1);
        xml += &format!("<{kind}><Start>{start}</Start><End>{end}</End></{kind}>");
    }
    match entries.get(shown) {
        Some((next, _)) => xml += &format!("<NextMarker>{}</NextMarker></PageList>", next.start),
        None => xml += "<NextMarker/></PageList>",
    }
    Answer::of(200, xml)
}

/// The blobs of the container with their snapshots.
fn list(state: &State, asked: &Asked) -> Answer {
    let prefix = asked.query("prefix").unwrap_or_default();
    let mut xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>".to_owned();
    for (name, blob) in state.blobs.iter().filter(|(name, _)| name.starts_with(prefix)) {
        for (time, snapshot) in &blob.snapshots {
            let mark = if snapshot.is_marked { "<failback>snapshot</failback>" } else { "" };
            xml += &format!(
                "<Blob><Name>{name}</Name><Snapshot>{time}</Snapshot><Metadata>{mark}</Metadata></Blob>"
            );
        }
        xml += &format!("<Blob><Name>{name}</Name></Blob>");
    }
    Answer::of(200, xml + "</Blobs><NextMarker/></EnumerationResults>")
}
