//! The answer of *Get Page Ranges* and of its diff.
//!
//! Hostile input: it comes from a network. Ranges may come in any order, touch, overlap and repeat; what lies outside of the
//! window that was asked for is cut off, what lies outside of the blob is refused.
//!
//! **Invariant**: ranges that come out lie in the window, ascend and do not touch.

use failback_model::ByteRange;
use failback_model::limits::{BLOB_TEXT_MAX_BYTES, PAGE_LIST_ENTRIES_MAX};
use quick_xml::Reader;
use quick_xml::events::Event;

/// What one answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageList {
    /// Pages that hold data; of a diff: that were written.
    pub pages: Vec<ByteRange>,
    /// Of a diff: pages that were cleared.
    pub cleared: Vec<ByteRange>,
    /// How to ask for the rest; none: there is no rest.
    pub next_marker: Option<String>,
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageListError {
    /// It is no XML of this kind.
    #[error("the list of page ranges cannot be read: {0}")]
    Malformed(String),
    /// A range ends before it begins, or behind the blob.
    #[error("the list names bytes {start}..={end} of a blob of {length_bytes} bytes")]
    Outside {
        /// First byte.
        start: u64,
        /// Last byte.
        end: u64,
        /// The blob's length.
        length_bytes: u64,
    },
    /// More ranges than an answer may have.
    #[error("the list has more than {PAGE_LIST_ENTRIES_MAX} ranges")]
    TooMany,
}

/// Elements of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    List,
    Page,
    Clear,
    Start,
    End,
    Marker,
    Other,
}

impl Element {
    fn of(name: &str) -> Self {
        match name {
            "PageList" => Self::List,
            "PageRange" => Self::Page,
            "ClearRange" => Self::Clear,
            "Start" => Self::Start,
            "End" => Self::End,
            "NextMarker" => Self::Marker,
            _ => Self::Other,
        }
    }
}

impl PageList {
    /// Reads an answer about the bytes `window` of a blob of `length_bytes`.
    pub fn parse(xml: &[u8], window: ByteRange, length_bytes: u64) -> Result<Self, PageListError> {
        let malformed = |reason: &str| PageListError::Malformed(reason.into());
        let text = std::str::from_utf8(xml).map_err(|_| malformed("it is no UTF-8"))?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let mut list = Self::default();
        let (mut path, mut range, mut words) = (Vec::new(), [None; 2], String::new());
        let (mut entries, mut is_list) = (0, false);
        loop {
            let event = reader.read_event().map_err(|error| PageListError::Malformed(error.to_string()))?;
            match event {
                Event::Start(tag) => {
                    let element = Element::of(tag.name().as_ref());
                    if path.len() == 3 || path.is_empty() && (element != Element::List || is_list) {
                        return Err(malformed("an element stands where none belongs"));
                    }
                    is_list = true;
                    path.push(element);
                    words.clear();
                }
                Event::Text(part) => words.push_str(&part.into_inner()),
                Event::End(_) => {
                    let text = words.trim();
                    match path[..] {
                        [Element::List, Element::Marker] if !text.is_empty() => {
                            list.next_marker = Some(text.to_owned());
                        }
                        [
                            Element::List,
                            Element::Page | Element::Clear,
                            part @ (Element::Start | Element::End),
                        ] => {
                            let number = text.parse().map_err(|_| malformed("an offset is no number"))?;
                            range[usize::from(part == Element::End)] = Some(number);
                        }
                        [Element::List, kind @ (Element::Page | Element::Clear)] => {
                            entries += 1;
                            if entries > PAGE_LIST_ENTRIES_MAX {
                                return Err(PageListError::TooMany);
                            }
                            let [Some(start), Some(end)] = std::mem::take(&mut range) else {
                                return Err(malformed("a range has no start or no end"));
                            };
                            if start > end || end >= length_bytes {
                                return Err(PageListError::Outside { start, end, length_bytes });
                            }
                            let is_page = kind == Element::Page;
                            let ranges = if is_page { &mut list.pages } else { &mut list.cleared };
                            ranges.extend(ByteRange::new(start, end + 1).intersection(window));
                        }
                        _ => {}
                    }
                    path.pop();
                    words.clear();
                }
                Event::Empty(tag) => match (path.is_empty(), Element::of(tag.name().as_ref())) {
                    (true, Element::List) if !is_list => is_list = true,
                    (true, _) | (false, Element::Page | Element::Clear | Element::Start | Element::End) => {
                        return Err(malformed("an element is empty that must not be"));
                    }
                    (false, _) => {}
                },
                Event::Eof if !is_list || !path.is_empty() => return Err(malformed("it breaks off")),
                Event::Eof => break,
                Event::DocType(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(malformed("it has what no such list has"));
                }
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            }
            if words.len() > BLOB_TEXT_MAX_BYTES {
                return Err(malformed("a text is too long"));
            }
        }
        join(&mut list.pages);
        join(&mut list.cleared);
        Ok(list)
    }
}

/// Sorts ranges and joins those that touch.
pub(super) fn join(ranges: &mut Vec<ByteRange>) {
    ranges.sort_unstable_by_key(|range| range.start());
    ranges.dedup_by(|next, before| {
        let touches = next.start() <= before.end();
        if touches {
            *before = ByteRange::new(before.start(), before.end().max(next.end()));
        }
        touches
    });
}

#[cfg(test)]
mod tests;
