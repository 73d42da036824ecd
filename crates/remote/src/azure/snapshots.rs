//! Snapshots of a page blob that is no managed disk: made for a cycle and removed after it.
//!
//! **Invariant**: only snapshots that bear our mark are listed.

use super::address::BlobUrl;
use super::service::{BlobService, Patience, Trouble};
use crate::http::{Method, Request};
use crate::open::OpenOptions;
use crate::spec::BlobAddress;
use failback_blockio::Operation;
use failback_model::limits::{BLOB_ANSWER_MAX_BYTES, BLOB_TEXT_MAX_BYTES, PAGE_LIST_ANSWERS_MAX};
use failback_model::{Code, Finding};
use quick_xml::Reader;
use quick_xml::events::Event;

/// The mark of a snapshot that we made: `x-ms-meta-failback`.
const MARK: &str = "failback";

/// The snapshots of a blob.
#[derive(Debug)]
pub struct BlobSnapshots {
    service: BlobService,
    owner: String,
}

impl BlobSnapshots {
    /// Of the blob at an address; the command `renew` makes its signature anew. The signature must allow to create snapshots
    /// (`c` or `w`) and to delete them (`d` or `x`); listing them needs one of the container that allows it (`l`).
    pub fn new(address: &BlobAddress, renew: &[String]) -> Result<Self, Finding> {
        Self::with_options(address, &OpenOptions { renew: renew.to_vec(), ..OpenOptions::default() })
    }

    /// The same with all that says how a service is reached.
    pub fn with_options(address: &BlobAddress, options: &OpenOptions) -> Result<Self, Finding> {
        let options = OpenOptions { snapshot: None, ..options.clone() };
        let service = BlobService::new(address, &options, Patience::default())?;
        if service.snapshot().is_some() {
            let evidence = format!("{} is a snapshot itself", service.name().display());
            return Err(Finding::error(Code::SourceUnsupported, evidence));
        }
        Ok(Self { service, owner: "snapshot".into() })
    }

    /// The same for one owner: others' are not listed. A name as of a machine, since it travels in a header.
    pub fn owned_by(self, owner: &str) -> Self {
        Self { owner: owner.into(), ..self }
    }

    /// Makes one; its time, as the service writes it. One that was made by a request whose answer was lost bears the mark, so
    /// that [`BlobSnapshots::list`] has it.
    pub fn create(&self) -> Result<String, Finding> {
        let request = |url: &BlobUrl| {
            Request::new(Method::PUT, url.asking(&[("comp", "snapshot")]))
                .with("x-ms-meta-failback", &self.owner)
        };
        let made = self.service.ask(Operation::Create, &request, &mut |answer| {
            let time = answer.text_of("x-ms-snapshot").map(str::to_owned);
            time.ok_or_else(|| Trouble::Final(Code::CloudFailed, "the answer names no snapshot".into()))
        });
        made.map_err(|error| error.to_finding())
    }

    /// Removes the one of that time. One that is gone already is no error.
    pub fn delete(&self, time: &str) -> Result<(), Finding> {
        let request =
            |url: &BlobUrl| Ok(Request::new(Method::DELETE, url.at_snapshot(Some(time)).asking(&[])));
        match self.service.ask(Operation::Write, &request, &mut |_| Ok(())) {
            Err(error) if error.code != Code::BlobMissing => Err(error.to_finding()),
            _ => Ok(()),
        }
    }

    /// The times of all that bear our mark, the oldest first.
    pub fn list(&self) -> Result<Vec<String>, Finding> {
        let mut times = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGE_LIST_ANSWERS_MAX {
            let request = |url: &BlobUrl| {
                let (container, blob) = url.container();
                let container = container.changed(|url| {
                    url.query_pairs_mut().extend_pairs([
                        ("restype", "container"),
                        ("comp", "list"),
                        ("include", "snapshots,metadata"),
                        ("prefix", &decoded(&blob)),
                    ]);
                    if let Some(marker) = &marker {
                        url.query_pairs_mut().append_pair("marker", marker);
                    }
                });
                Ok(Request::new(Method::GET, container))
            };
            let blob = self.service.blob_name();
            let (page, next) = self
                .service
                .ask(Operation::Read, &request, &mut |answer| {
                    let body = answer.body(BLOB_ANSWER_MAX_BYTES)?;
                    read_list(&body, &blob, &self.owner)
                        .map_err(|reason| Trouble::Final(Code::CloudFailed, reason))
                })
                .map_err(|error| error.to_finding())?;
            times.extend(page);
            match next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                _ => break,
            }
        }
        times.sort_unstable();
        Ok(times)
    }
}

/// A name of a path as the service has it, without percent signs; what is no text stays as it is.
pub(super) fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// What an answer says of one blob or snapshot.
#[derive(Default)]
struct Listed {
    name: String,
    snapshot: String,
    is_marked: bool,
}

/// The times of an owner's snapshots of `blob` in an answer, and how to ask for the rest.
fn read_list(xml: &[u8], blob: &str, owner: &str) -> Result<(Vec<String>, Option<String>), String> {
    let text = std::str::from_utf8(xml).map_err(|_| "the list of blobs is no UTF-8".to_owned())?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let (mut times, mut next, mut words) = (Vec::new(), None, String::new());
    let mut listed = Listed::default();
    loop {
        match reader.read_event().map_err(|error| format!("the list of blobs cannot be read: {error}"))? {
            Event::Start(tag) => {
                if tag.name().as_ref() == "Blob" {
                    listed = Listed::default();
                }
                words.clear();
            }
            Event::Text(part) => words.push_str(&part.into_inner()),
            Event::End(tag) => {
                match tag.name().as_ref() {
                    "Name" => listed.name = std::mem::take(&mut words),
                    "Snapshot" => listed.snapshot = std::mem::take(&mut words),
                    name if name.eq_ignore_ascii_case(MARK) => listed.is_marked = words == owner,
                    "NextMarker" => next = Some(std::mem::take(&mut words)).filter(|text| !text.is_empty()),
                    "Blob" if listed.is_marked && listed.name == blob && !listed.snapshot.is_empty() => {
                        times.push(std::mem::take(&mut listed.snapshot));
                    }
                    _ => {}
                }
                words.clear();
            }
            Event::Eof => return Ok((times, next)),
            _ => {}
        }
        if words.len() > BLOB_TEXT_MAX_BYTES {
            return Err("the list of blobs has a text that is too long".into());
        }
    }
}
