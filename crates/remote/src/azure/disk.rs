//! A page blob as a disk.
//!
//! **Invariant**: every byte that is given was sent whole, matched the checksum where the service gave one, and is of the
//! version of the blob that was opened.

use super::footer;
use super::page_map::{PageMap, Question};
use super::service::{BlobService, Patience, Trouble};
use crate::http::{Answer, Method, Request, StatusCode};
use crate::open::OpenOptions;
use crate::read_only::{ReadOnly, RemoteDisk};
use crate::spec::BlobAddress;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use failback_blockio::{ChangeFeed, DiskError, Operation, UnitSource};
use failback_format::vhd::SECTOR_BYTES;
use failback_image::{Image, ImageFormat, encryption};
use failback_model::limits::{BLOB_READ_MAX_BYTES, DISK_MAX_BYTES};
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use md5::{Digest, Md5};
use std::path::Path;
use std::sync::Arc;

/// Opens a page blob to be read.
pub(crate) fn open(address: &BlobAddress, options: &OpenOptions) -> Result<Arc<dyn Image>, Finding> {
    Ok(Arc::new(ReadOnly(PageBlob::open(address, options, Patience::default())?)))
}

/// What changed in the blob at an address since a snapshot: its time, or `@FILE` that holds its URL.
pub(crate) fn open_diff(
    address: &BlobAddress,
    base: &str,
    options: &OpenOptions,
) -> Result<Box<dyn ChangeFeed>, Finding> {
    let unusable = |finding: Finding| {
        Finding::warning(Code::FeedUnusable, format!("page-range diff: {}", finding.evidence))
    };
    let question = match (&options.managed, base.strip_prefix('@')) {
        (Some(state), _) => match state.why_no_difference() {
            Some(why) => return Err(why),
            None => Question::SinceState(Arc::clone(state)),
        },
        (None, Some(path)) => {
            Question::SinceUrl(BlobAddress::File(path.into()).url().map_err(unusable)?.expose().to_owned())
        }
        (None, None) => Question::SinceTime(base.to_owned()),
    };
    let blob = PageBlob::open(address, options, Patience::default()).map_err(unusable)?;
    let diff = BlobDiff(blob.map_of(question));
    // Whether there is such a base at all shows when it is asked for the first time.
    diff.next_changed(0).map_err(|error| unusable(error.to_finding()))?;
    Ok(Box::new(diff))
}

/// A page blob, or a snapshot of one.
#[derive(Debug)]
pub struct PageBlob {
    service: Arc<BlobService>,
    geometry: DiskGeometry,
    properties: Properties,
    data: PageMap,
    warnings: Vec<Finding>,
}

/// What changed in a page blob.
#[derive(Debug)]
struct BlobDiff(PageMap);

/// What the service says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Properties {
    length_bytes: u64,
    etag: String,
}

impl Properties {
    fn of(answer: &Answer) -> Result<Self, Trouble> {
        let refuse = |reason: String| Err(Trouble::Final(Code::BlobUnsupported, reason));
        match answer.text_of("x-ms-blob-type") {
            Some("PageBlob") => {}
            Some(kind) => return refuse(format!("it is a {kind}, disks are in page blobs")),
            None => return refuse("the service does not say what kind of blob it is".into()),
        }
        let length_bytes = answer.text_of("content-length").and_then(|text| text.parse().ok());
        let (Some(length_bytes), Some(etag)) = (length_bytes, answer.text_of("etag")) else {
            return refuse("the service names neither length nor ETag".into());
        };
        let is_disk = u64::is_multiple_of(length_bytes, SECTOR_BYTES)
            && (2 * SECTOR_BYTES..=DISK_MAX_BYTES).contains(&length_bytes);
        if !is_disk {
            return refuse(format!("{length_bytes} bytes are no disk of whole sectors that is read here"));
        }
        Ok(Self { length_bytes, etag: etag.into() })
    }
}

impl PageBlob {
    /// Asks what it is, and looks at its ends and at what its partitions begin with.
    pub(super) fn open(
        address: &BlobAddress,
        options: &OpenOptions,
        patience: Patience,
    ) -> Result<Self, Finding> {
        let service = Arc::new(BlobService::new(address, options, patience)?);
        let properties = service
            .ask(Operation::Open, &|url| Ok(Request::new(Method::HEAD, url.asking(&[]))), &mut |answer| {
                Properties::of(&answer)
            })
            .map_err(|error| error.to_finding())?;
        let blob_bytes = properties.length_bytes;
        let unsupported = |reason: String| {
            let evidence = format!("{}: {reason}", service.name().display());
            Finding::error(Code::BlobUnsupported, evidence).about(service.name())
        };
        let mut ends = [[0; SECTOR_BYTES as usize]; 2];
        for (end, at) in ends.iter_mut().zip([0, blob_bytes - SECTOR_BYTES]) {
            fetch(&service, &properties, at, end).map_err(|error| error.to_finding())?;
        }
        let length_bytes = footer::disk_length(&ends[0], &ends[1], blob_bytes).map_err(unsupported)?;
        let geometry = DiskGeometry { length_bytes, sector_size: SectorSize::B512 };
        let etag = properties.etag.clone();
        let data = PageMap::new(Arc::clone(&service), Question::Data, etag, blob_bytes, length_bytes);
        let warnings = address.exposure().into_iter().collect();
        let mut blob = Self { service, geometry, properties, data, warnings };
        let found = encryption(&blob).map_err(|error| error.to_finding())?;
        blob.warnings.extend(found);
        Ok(blob)
    }

    fn map_of(&self, question: Question) -> PageMap {
        let service = Arc::clone(&self.service);
        let Properties { length_bytes, etag } = self.properties.clone();
        PageMap::new(service, question, etag, length_bytes, self.geometry.length_bytes)
    }
}

/// Reads what one request may hold.
fn fetch(
    service: &BlobService,
    properties: &Properties,
    offset_bytes: u64,
    buffer: &mut [u8],
) -> Result<(), DiskError> {
    let last = offset_bytes + buffer.len() as u64 - 1;
    service
        .ask(
            Operation::Read,
            &|url| {
                Request::new(Method::GET, url.asking(&[]))
                    .with("x-ms-range", format!("bytes={offset_bytes}-{last}"))?
                    .with("x-ms-range-get-content-md5", "true")?
                    .with("if-match", &properties.etag)
            },
            &mut |answer| take_bytes(answer, properties, buffer),
        )
        .map_err(|error| error.at(offset_bytes))
}

/// Takes the bytes of an answer and checks them.
fn take_bytes(answer: Answer, properties: &Properties, buffer: &mut [u8]) -> Result<(), Trouble> {
    let is_whole = buffer.len() as u64 == properties.length_bytes;
    if answer.status() != StatusCode::PARTIAL_CONTENT && !is_whole {
        let reason = format!("a range was asked for, the answer is {}", answer.status());
        return Err(Trouble::Final(Code::CloudFailed, reason));
    }
    if answer.text_of("etag").is_some_and(|etag| etag != properties.etag) {
        return Err(Trouble::Final(Code::ChangedMeanwhile, "its ETag is another one now".into()));
    }
    let sum = answer.text_of("content-md5").map(str::to_owned);
    answer.fill(buffer)?;
    match sum {
        // The sum of a whole blob may be that of when it was made; a range's is made for the answer.
        Some(sum) if !is_whole && sum != BASE64_STANDARD.encode(Md5::digest(&*buffer)) => {
            Err(Trouble::Again("the bytes that came do not match their checksum".into()))
        }
        _ => Ok(()),
    }
}

impl UnitSource for PageBlob {
    fn geometry(&self) -> DiskGeometry {
        self.geometry
    }

    fn name(&self) -> &Path {
        self.service.name()
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = self.geometry.length_bytes;
        if ByteRange::at(offset_bytes, buffer.len() as u64).is_none_or(|range| range.end() > end) {
            let reason = format!("{} bytes pass the disk's end at {end}", buffer.len());
            return Err(
                DiskError::new(Code::ReadFailed, Operation::Read, self.name(), reason).at(offset_bytes)
            );
        }
        let mut at = offset_bytes;
        for part in buffer.chunks_mut(BLOB_READ_MAX_BYTES as usize) {
            fetch(&self.service, &self.properties, at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.data.next(from_bytes)
    }

    fn read_bytes(&self) -> u64 {
        BLOB_READ_MAX_BYTES
    }
}

impl RemoteDisk for PageBlob {
    fn format(&self) -> ImageFormat {
        ImageFormat::PageBlob
    }

    fn version(&self) -> String {
        format!("{} {}", self.name().display(), self.properties.etag)
    }

    fn warnings(&self) -> Vec<Finding> {
        self.warnings.clone()
    }
}

impl ChangeFeed for BlobDiff {
    fn next_changed(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.0.next(from_bytes)
    }
}
