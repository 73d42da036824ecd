//! Reading a descriptor, line by line.
//!
//! **Invariant**: a line that another reader could take for an extent is never passed over: what is neither blank,
//! comment, key nor extent is an error, and so is a key named twice that decides anything.

use super::extent::{self, Extent};
use super::{CreateType, Descriptor, DescriptorError, Entry, NO_PARENT};
use failback_model::limits::{DESCRIPTOR_MAX_BYTES, EXTENTS_MAX};
use std::ops::Range;

const SIGNATURE: &[u8] = b"# disk descriptorfile";

/// Keys of the disk data base that decide something here; each may stand once.
const DECIDING: [&str; 7] = [
    "uuid",
    "adaptertype",
    "longcontentid",
    "thinprovisioned",
    "geometry.cylinders",
    "geometry.heads",
    "geometry.sectors",
];

pub(super) fn has_signature(head: &[u8]) -> bool {
    let blanks = head.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    head.get(blanks..blanks + SIGNATURE.len()).is_some_and(|text| text.eq_ignore_ascii_case(SIGNATURE))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Descriptor, DescriptorError> {
    if bytes.len() > DESCRIPTOR_MAX_BYTES {
        return Err(DescriptorError::TooLong(bytes.len()));
    }
    if !has_signature(bytes) {
        return Err(DescriptorError::NotADescriptor);
    }
    let mut found = Found::default();
    for (line, at) in lines(bytes).enumerate() {
        found.take_line(bytes, line + 1, at)?;
    }
    found.finish(bytes)
}

/// Where each line lies, its end included; ends at the first NUL, where an embedded descriptor's padding begins.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let text = text_length(bytes);
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let rest = &bytes[start..text];
        next += rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        (start < next).then_some(start..next)
    })
}

/// Length of the text before any padding.
pub(super) fn text_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())
}

/// A value in the descriptor.
type Value = Option<Range<usize>>;

/// What was found so far.
#[derive(Default)]
struct Found {
    version: Value,
    content_id: Value,
    parent_content_id: Value,
    parent_hint: Value,
    change_track_path: Value,
    create_type: Value,
    extents: Vec<Extent>,
    ddb: Vec<Entry>,
}

impl Found {
    fn take_line(&mut self, bytes: &[u8], line: usize, at: Range<usize>) -> Result<(), DescriptorError> {
        let start = at.start;
        let text = trim(bytes, at.clone());
        let content = &bytes[text.clone()];
        if content.is_empty() || content[0] == b'#' {
            return Ok(());
        }
        let word = content.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if let Some(access) = extent::access_of(word) {
            if self.extents.len() == EXTENTS_MAX {
                return Err(DescriptorError::TooManyExtents);
            }
            let disk_bytes = self.extents.last().map_or(0, |last| last.disk.end());
            let mut extent = extent::parse(content, text.start, access, disk_bytes)
                .map_err(|error| error.at_line(line))?;
            extent.line_at = start..at.end;
            self.extents.push(extent);
            return Ok(());
        }
        let malformed = |reason: &str| DescriptorError::Line { line, reason: reason.into() };
        let equals = content
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or_else(|| malformed("neither a key, a comment nor an extent"))?;
        let key = String::from_utf8_lossy(&bytes[trim(bytes, text.start..text.start + equals)])
            .to_ascii_lowercase();
        let value = unquote(bytes, trim(bytes, text.start + equals + 1..text.end))
            .ok_or_else(|| malformed("the value's quote is not closed"))?;
        self.take_value(line, key, value)
    }

    fn take_value(&mut self, line: usize, key: String, value: Range<usize>) -> Result<(), DescriptorError> {
        let twice = |key: &str| DescriptorError::Line { line, reason: format!("{key} is named twice") };
        let slot = match key.as_str() {
            "version" => &mut self.version,
            "cid" => &mut self.content_id,
            "parentcid" => &mut self.parent_content_id,
            "parentfilenamehint" => &mut self.parent_hint,
            "changetrackpath" => &mut self.change_track_path,
            "createtype" => &mut self.create_type,
            _ => {
                if let Some(key) = key.strip_prefix("ddb.") {
                    if DECIDING.contains(&key) && self.ddb.iter().any(|entry| entry.key == key) {
                        return Err(twice(key));
                    }
                    self.ddb.push(Entry { key: key.into(), at: value });
                }
                return Ok(());
            }
        };
        if slot.replace(value).is_some() {
            return Err(twice(&key));
        }
        Ok(())
    }

    fn finish(self, bytes: &[u8]) -> Result<Descriptor, DescriptorError> {
        let text = |at: Range<usize>| String::from_utf8_lossy(&bytes[at]).into_owned();
        let line_of = |at: &Range<usize>| bytes[..at.start].iter().filter(|&&byte| byte == b'\n').count() + 1;
        let hex = |at: &Range<usize>, key: &str| {
            content_id(&bytes[at.clone()]).ok_or_else(|| DescriptorError::Line {
                line: line_of(at),
                reason: format!("{key} is not a hexadecimal number of 32 bits"),
            })
        };
        let version_at = self.version.ok_or(DescriptorError::Missing("version"))?;
        let version = text(version_at.clone()).parse::<u32>().map_err(|_| DescriptorError::Line {
            line: line_of(&version_at),
            reason: "version is not a number".into(),
        })?;
        if !(1..=3).contains(&version) {
            return Err(DescriptorError::Version(version));
        }
        let content_id_at = self.content_id.ok_or(DescriptorError::Missing("CID"))?;
        let parent = self.parent_content_id.map(|at| hex(&at, "parentCID")).transpose()?;
        let create_type = self.create_type.ok_or(DescriptorError::Missing("createType"))?;
        refuse_overlaps(&self.extents)?;
        Ok(Descriptor {
            version,
            content_id: hex(&content_id_at, "CID")?,
            content_id_at,
            parent_content_id: parent.filter(|&id| id != NO_PARENT),
            parent_hint: self.parent_hint.map(|at| bytes[at].to_vec()),
            change_track_path: self.change_track_path.map(|at| bytes[at].to_vec()),
            create_type: CreateType::from_word(&text(create_type)),
            length_bytes: self.extents.last().map_or(0, |last| last.disk.end()),
            extents: self.extents,
            ddb: self.ddb,
            bytes: bytes.to_vec(),
        })
    }
}

fn content_id(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The range without blanks at its ends.
fn trim(bytes: &[u8], mut at: Range<usize>) -> Range<usize> {
    while at.start < at.end && bytes[at.start].is_ascii_whitespace() {
        at.start += 1;
    }
    while at.start < at.end && bytes[at.end - 1].is_ascii_whitespace() {
        at.end -= 1;
    }
    at
}

/// The value within its quotes, if it has any.
fn unquote(bytes: &[u8], at: Range<usize>) -> Option<Range<usize>> {
    if at.is_empty() || bytes[at.start] != b'"' {
        return Some(at);
    }
    (at.len() >= 2 && bytes[at.end - 1] == b'"').then(|| at.start + 1..at.end - 1)
}

/// Sorted by name and place, only neighbours can overlap first.
fn refuse_overlaps(extents: &[Extent]) -> Result<(), DescriptorError> {
    // An empty run between two others would hide that they overlap.
    let mut order: Vec<usize> = (0..extents.len()).filter(|&i| !extents[i].disk.is_empty()).collect();
    order.sort_by_key(|&i| {
        (&extents[i].name, extents[i].file_range().map(|range| (range.start(), range.end())))
    });
    for pair in order.windows(2) {
        let (first, second) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        if extents[first].overlaps(&extents[second]) {
            let name = extents[first].display_name();
            return Err(DescriptorError::Overlap { first, second, name });
        }
    }
    Ok(())
}
