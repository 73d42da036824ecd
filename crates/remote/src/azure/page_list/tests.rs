use super::*;

const LENGTH: u64 = 1 << 20;

fn parse(body: &str) -> Result<PageList, PageListError> {
    let xml = format!("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>{body}</PageList>");
    PageList::parse(xml.as_bytes(), ByteRange::new(0, LENGTH), LENGTH)
}

fn page(start: u64, end: u64) -> String {
    format!("<PageRange>\n <Start>{start}</Start><End>{end}</End></PageRange>")
}

fn clear(start: u64, end: u64) -> String {
    format!("<ClearRange><Start>{start}</Start><End>{end}</End></ClearRange>")
}

#[test]
fn pages_and_cleared_pages_may_be_mixed_unordered_and_unmerged() {
    let body = page(1024, 1535) + &clear(4096, 8191) + &page(0, 511) + &page(512, 1023) + &clear(2048, 2559);
    let list = parse(&body).expect("a list");
    assert_eq!(list.pages, [ByteRange::new(0, 1536)]);
    assert_eq!(list.cleared, [ByteRange::new(2048, 2560), ByteRange::new(4096, 8192)]);
    assert_eq!(list.next_marker, None);
}

#[test]
fn a_list_may_be_empty_and_its_marker_too() {
    assert_eq!(parse("").expect("a list"), PageList::default());
    assert_eq!(parse("<NextMarker/>").expect("a list"), PageList::default());
    assert_eq!(parse("<NextMarker></NextMarker>").expect("a list"), PageList::default());
    let marked = parse("<NextMarker>4096!x</NextMarker>").expect("a list");
    assert_eq!(marked.next_marker.as_deref(), Some("4096!x"));
    let empty = PageList::parse(b"<PageList/>", ByteRange::new(0, 1), 1).expect("a list");
    assert_eq!(empty, PageList::default());
}

#[test]
fn what_lies_outside_the_window_is_cut_off_and_outside_the_blob_refused() {
    let xml = format!("<PageList>{}{}</PageList>", page(0, 1023), page(4096, 8191));
    let list = PageList::parse(xml.as_bytes(), ByteRange::new(512, 5120), LENGTH).expect("a list");
    assert_eq!(list.pages, [ByteRange::new(512, 1024), ByteRange::new(4096, 5120)]);
    for outside in [page(0, LENGTH), page(5, 4), clear(u64::MAX, u64::MAX), page(LENGTH, LENGTH + 511)] {
        assert!(matches!(parse(&outside), Err(PageListError::Outside { .. })), "{outside}");
    }
}

#[test]
fn what_is_no_list_is_refused() {
    for body in [
        "<PageRange><Start>0</Start></PageRange>",
        "<PageRange/>",
        "<PageRange><Start>-1</Start><End>5</End></PageRange>",
        "<PageRange><Start>99999999999999999999</Start><End>5</End></PageRange>",
        "<PageRange><Start><a>1</a></Start><End>5</End></PageRange>",
        "<PageRange><Start>&lt;</Start><End>5</End></PageRange>",
        "</PageList><PageList>",
    ] {
        assert!(matches!(parse(body), Err(PageListError::Malformed(_))), "{body}");
    }
    for xml in ["", "<Error/>", "<PageList>", "<!DOCTYPE a [<!ENTITY b 'c'>]><PageList/>", "text"] {
        let window = ByteRange::new(0, LENGTH);
        assert!(PageList::parse(xml.as_bytes(), window, LENGTH).is_err(), "{xml}");
    }
    let long = format!("<NextMarker>{}</NextMarker>", "x".repeat(BLOB_TEXT_MAX_BYTES + 1));
    assert!(parse(&long).is_err(), "a marker has a bound");
}

#[test]
fn an_answer_has_a_bound() {
    let body = page(0, 511).repeat(PAGE_LIST_ENTRIES_MAX + 1);
    assert_eq!(parse(&body), Err(PageListError::TooMany));
}
