//! Notes as lines of text, so that a process that is killed leaves them to whoever judges what it did.

use crate::machine_model::{Contents, Note};
use failback_model::Epoch;
use std::fmt::Write as _;
use std::sync::Arc;

/// A note as one line.
pub(crate) fn encode(note: &Note) -> String {
    let mut line = String::new();
    let mut put = |words: &[u64]| words.iter().for_each(|word| write!(line, " {word}").expect("text grows"));
    let word = match note {
        Note::Holds(pages) => {
            pages
                .iter()
                .for_each(|&(disk, page, version)| put(&[disk as u64, page as u64, u64::from(version)]));
            "holds"
        }
        Note::MayChange(disk, pages) => {
            put(&[*disk as u64, pages.start as u64, pages.end as u64]);
            "may-change"
        }
        Note::Coming(contents) => {
            put_contents(&mut put, contents);
            "coming"
        }
        Note::Point(number, contents) => {
            put(&[*number]);
            put_contents(&mut put, contents);
            "point"
        }
        Note::MayGo(numbers) => {
            put(numbers);
            "may-go"
        }
        Note::Gone(numbers) => {
            put(numbers);
            "gone"
        }
        Note::Over(epoch) => {
            put(&[epoch.0]);
            "over"
        }
    };
    format!("{word}{line}\n")
}

fn put_contents(put: &mut impl FnMut(&[u64]), contents: &Contents) {
    for pages in contents {
        put(&[pages.len() as u64]);
        pages.iter().for_each(|version| put(&[u64::from(*version)]));
    }
}

/// The notes of whole lines; the last may be cut off.
pub(crate) fn decode(text: &str) -> Vec<Note> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| decode_line(line).unwrap_or_else(|| panic!("no note: {line}"))).collect()
}

fn decode_line(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let word = words.next()?;
    let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    Some(match (word, &numbers[..]) {
        ("holds", pages) => {
            let pages = pages.chunks(3);
            Note::Holds(pages.map(|page| (page[0] as usize, page[1] as usize, page[2] as u32)).collect())
        }
        ("may-change", &[disk, start, end]) => Note::MayChange(disk as usize, start as usize..end as usize),
        ("coming", contents) => Note::Coming(contents_of(contents)),
        ("point", [number, contents @ ..]) => Note::Point(*number, contents_of(contents)),
        ("may-go", _) => Note::MayGo(numbers),
        ("gone", _) => Note::Gone(numbers),
        ("over", &[epoch]) => Note::Over(Epoch(epoch)),
        _ => return None,
    })
}

fn contents_of(mut numbers: &[u64]) -> Arc<Contents> {
    let mut contents = Contents::new();
    while let Some((count, rest)) = numbers.split_first() {
        let (pages, rest) = rest.split_at(*count as usize);
        contents.push(pages.iter().map(|version| *version as u32).collect());
        numbers = rest;
    }
    contents.into()
}

#[test]
fn notes_come_back_from_text() {
    let contents = Arc::new(vec![vec![1, 0, 7], vec![4_000_000_000]]);
    let notes = [
        Note::Holds(vec![(0, 1, 2), (1, 3, 4)]),
        Note::Holds(vec![]),
        Note::MayChange(1, 2..9),
        Note::Coming(contents.clone()),
        Note::Point(3, contents),
        Note::MayGo(vec![1, 2]),
        Note::Gone(vec![]),
        Note::Over(Epoch(4)),
    ];
    let text: String = notes.iter().map(encode).collect();
    assert_eq!(decode(&text), notes);
    assert_eq!(decode(&text[..text.len() - 1]), notes[..7], "the last line was cut off");
}
