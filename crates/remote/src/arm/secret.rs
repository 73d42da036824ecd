//! Texts of others, which may hold a signature.
//!
//! **Invariant**: nothing prints one.

/// A text of somebody else with every signature in it (`sig=`) left out.
pub fn without_signatures(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find("sig=") {
        let value = &rest[at + 4..];
        let end = value.find(|c: char| c == '&' || c == '"' || c == '\'' || c.is_whitespace());
        out.push_str(&rest[..at]);
        out.push_str("sig=...");
        rest = end.map_or("", |end| &value[end..]);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_never_printed() {
        assert_eq!(
            without_signatures("at https://h/b?SIG=SECRET&se=2 and \"?sig=TOO\", no more"),
            "at https://h/b?sig=...&se=2 and \"?sig=...\", no more"
        );
    }
}
