//! The answer of *Get Page Ranges*: XML from a network.

use failback_model::ByteRange;
use failback_remote::azure::page_list::PageList;

/// Reads; what is read lies in the window, ascends and does not touch, and says the same of a smaller window.
pub fn page_ranges(data: &[u8]) {
    let Some((&cut, xml)) = data.split_first() else { return };
    let length_bytes = 1 << 20;
    let window = ByteRange::new(0, length_bytes);
    let Ok(list) = PageList::parse(xml, window, length_bytes) else { return };
    let part = ByteRange::new(u64::from(cut) * 512, length_bytes);
    let smaller = PageList::parse(xml, part, length_bytes).expect("the same answer");
    assert_eq!(smaller.next_marker, list.next_marker);
    for (ranges, smaller) in [(&list.pages, &smaller.pages), (&list.cleared, &smaller.cleared)] {
        assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()), "{ranges:?}");
        assert!(ranges.iter().all(|range| !range.is_empty() && range.end() <= length_bytes), "{ranges:?}");
        let expected: Vec<_> = ranges.iter().filter_map(|range| range.intersection(part)).collect();
        assert_eq!(&expected, smaller);
    }
}
