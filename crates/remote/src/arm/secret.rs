//! URLs that hold a signature.
//!
//! **Invariant**: nothing prints one.

use std::fmt;

/// A URL that whoever has it may read by.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes a URL.
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The URL with its signature, for a request and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())?;
        f.write_str("?...")
    }
}

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
        let url = SecretUrl::new("https://h/c/b?sv=1&sig=SECRET%2F&se=2".into());
        assert_eq!(format!("{url:?}"), "https://h/c/b?...");
        assert_eq!(
            without_signatures("at https://h/b?SIG=SECRET&se=2 and \"?sig=TOO\", no more"),
            "at https://h/b?sig=...&se=2 and \"?sig=...\", no more"
        );
    }
}
