//! Which bytes of a blob hold data, or differ from an earlier snapshot: asked window by window, once.
//!
//! **Invariant**: a window is either known whole or not at all.

use super::page_list::{PageList, join};
use super::service::{BlobService, Trouble};
use crate::arm::ManagedRead;
use crate::http::{Method, Request};
use failback_blockio::{DiskError, Operation};
use failback_model::limits::{
    PAGE_LIST_ANSWERS_MAX, PAGE_LIST_MAX_BYTES, PAGE_LIST_RESULTS, PAGE_LIST_WINDOW_BYTES,
};
use failback_model::{ByteRange, Code};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What is asked.
#[derive(Clone)]
pub(super) enum Question {
    /// What holds data.
    Data,
    /// What changed since the snapshot of this time.
    SinceTime(String),
    /// What changed since the snapshot with this URL, which is a secret.
    SinceUrl(String),
    /// What changed since the base of the state of a managed disk.
    SinceState(Arc<ManagedRead>),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("Data"),
            Self::SinceTime(time) => write!(f, "SinceTime({time})"),
            Self::SinceUrl(_) => f.write_str("SinceUrl(_)"),
            Self::SinceState(state) => write!(f, "SinceState({state:?})"),
        }
    }
}

/// A map of a blob.
#[derive(Debug)]
pub(super) struct PageMap {
    service: Arc<BlobService>,
    question: Question,
    etag: String,
    blob_bytes: u64,
    /// Length of what is mapped: the blob without a footer.
    length_bytes: u64,
    windows: Mutex<BTreeMap<u64, Arc<[ByteRange]>>>,
}

impl PageMap {
    pub(super) fn new(
        service: Arc<BlobService>,
        question: Question,
        etag: String,
        blob_bytes: u64,
        length_bytes: u64,
    ) -> Self {
        Self { service, question, etag, blob_bytes, length_bytes, windows: Mutex::default() }
    }

    /// First run at or after `from_bytes`; runs end where a window does.
    pub(super) fn next(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let mut at = from_bytes;
        while at < self.length_bytes {
            let number = at / PAGE_LIST_WINDOW_BYTES;
            let ranges = self.window(number)?;
            let first = ranges.partition_point(|range| range.end() <= at);
            if let Some(range) = ranges.get(first) {
                return Ok(Some(ByteRange::new(range.start().max(at), range.end())));
            }
            at = (number + 1) * PAGE_LIST_WINDOW_BYTES;
        }
        Ok(None)
    }

    /// The ranges of a window, asked for the first time. Who else wants one meanwhile waits, most likely for the same.
    fn window(&self, number: u64) -> Result<Arc<[ByteRange]>, DiskError> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ranges) = windows.get(&number) {
            return Ok(Arc::clone(ranges));
        }
        let start = number * PAGE_LIST_WINDOW_BYTES;
        let window = ByteRange::new(start, self.length_bytes.min(start + PAGE_LIST_WINDOW_BYTES));
        let ranges: Arc<[ByteRange]> = self.fetch(window)?.into();
        windows.insert(number, Arc::clone(&ranges));
        Ok(ranges)
    }

    /// Asks for a window, answer by answer.
    fn fetch(&self, window: ByteRange) -> Result<Vec<ByteRange>, DiskError> {
        let mut ranges = Vec::new();
        let mut marker = None;
        for _ in 0..PAGE_LIST_ANSWERS_MAX {
            let list = self.ask(window, marker.as_deref())?;
            ranges.extend(list.pages);
            // Where data is asked for, none is cleared; of a diff what was cleared did change.
            ranges.extend(list.cleared);
            join(&mut ranges);
            match list.next_marker {
                None => return Ok(ranges),
                Some(next) if marker.as_ref() == Some(&next) => break,
                Some(next) => marker = Some(next),
            }
        }
        let reason = "the list of page ranges comes to no end";
        Err(DiskError::new(Code::CloudFailed, Operation::Seek, self.service.name(), reason)
            .at(window.start()))
    }

    fn ask(&self, window: ByteRange, marker: Option<&str>) -> Result<PageList, DiskError> {
        let results = PAGE_LIST_RESULTS.to_string();
        let mut pairs = vec![("comp", "pagelist"), ("maxresults", results.as_str())];
        pairs.extend(marker.map(|marker| ("marker", marker)));
        if let Question::SinceTime(time) = &self.question {
            pairs.push(("prevsnapshot", time));
        }
        // Asked for each answer: the base's URL expires, too.
        let base = match &self.question {
            Question::SinceUrl(base) => Some(base.clone()),
            Question::SinceState(state) => {
                let url = state.base_url().map_err(|finding| {
                    DiskError::new(finding.code, Operation::Seek, self.service.name(), finding.evidence)
                })?;
                url.map(|url| url.expose().to_string())
            }
            Question::Data | Question::SinceTime(_) => None,
        };
        self.service.ask(
            Operation::Seek,
            &|url| {
                let range = format!("bytes={}-{}", window.start(), window.end() - 1);
                let request = Request::new(Method::GET, url.asking(&pairs))
                    .with("x-ms-range", range)?
                    .with("if-match", &self.etag)?;
                match &base {
                    Some(base) => request.with_secret("x-ms-previous-snapshot-url", base),
                    None => Ok(request),
                }
            },
            &mut |answer| {
                let body = answer.body(PAGE_LIST_MAX_BYTES)?;
                PageList::parse(&body, window, self.blob_bytes)
                    .map_err(|error| Trouble::Final(Code::CloudFailed, error.to_string()))
            },
        )
    }
}
