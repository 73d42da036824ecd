//! Where a key stands in a TOML text, for faults that are found after it was read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Line and column of a byte, both from 1; columns count characters.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Offset of a key's value, or of the innermost table on the way to it where the key itself is not there.
pub(super) fn offset_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = key.split('.');
    let first = document.get_ref().get(steps.next()?)?;
    let mut found = first;
    for step in steps {
        match child(found, step) {
            Some(next) => found = next,
            None => break,
        }
    }
    Some(found.span().start)
}

fn child<'a, 'text>(value: &'a Spanned<DeValue<'text>>, step: &str) -> Option<&'a Spanned<DeValue<'text>>> {
    match value.get_ref() {
        DeValue::Table(table) => table.get(step),
        DeValue::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "a = 1\n[[machine]]\nid = \"x\"\n\n[[machine]]\nid = \"ä\"\n[[machine.disk]]\nid = \"d\"\n";

    #[test]
    fn keys_are_found_and_missing_ones_lead_to_their_table() {
        let place = |key| offset_of(TEXT, key).map(|at| line_and_column(TEXT, at));
        assert_eq!(place("a"), Some((1, 5)));
        assert_eq!(place("machine.1.id"), Some((6, 6)));
        assert_eq!(place("machine.1.disk.0.id"), Some((8, 6)));
        assert_eq!(place("machine.1.disk.0.path").map(|(line, _)| line), Some(7));
        assert_eq!(place("tls.key"), None);
    }

    #[test]
    fn any_offset_has_a_place() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("ä", 1), (1, 2), "in the middle of a character");
        assert_eq!(line_and_column("a\nb", 9), (2, 2));
    }
}
