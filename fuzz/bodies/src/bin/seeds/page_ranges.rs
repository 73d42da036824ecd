//! Seeds of `page_ranges`: where the window is cut, then an answer.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    let range = |kind, start, end| format!("<{kind}><Start>{start}</Start><End>{end}</End></{kind}>");
    let (page, clear) =
        (|start, end| range("PageRange", start, end), |start, end| range("ClearRange", start, end));
    let answer = |cut: u8, body: String| {
        let xml = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>{body}</PageList>");
        [vec![cut], xml.into_bytes()].concat()
    };
    vec![
        ("page_ranges", "empty", answer(0, String::new())),
        ("page_ranges", "diff", answer(3, page(0, 4095) + &clear(8192, 12_287) + &page(16_384, 16_895))),
        ("page_ranges", "unmerged", answer(1, page(512, 1023) + &page(0, 511) + &page(1024, 1535))),
        ("page_ranges", "marker", answer(0, page(0, 511) + "<NextMarker>1024!x</NextMarker>")),
        ("page_ranges", "outside", answer(0, page(0, 99_999_999))),
        ("page_ranges", "hostile", b"\0<!DOCTYPE a [<!ENTITY b \"c\">]><PageList>&b;</PageList>".to_vec()),
    ]
}
