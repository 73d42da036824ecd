//! A daemon's configuration: TOML whose every key is known, with the place of everything that is wrong.
//!
//! The types are the reference: [`reference()`] prints docs/config.md from them, and a test compares.
//!
//! **Invariant**: a configuration that loads has no fault; one that does not load names file, line, column, reason and
//! remedy, and everything that is wrong beyond the syntax at once.

mod locate;
mod reference;
mod restart;
mod values;

pub use reference::reference;
pub use restart::AtStart;
pub use values::{AdminAddress, ByteSize, Limits, LogFormat, LogLevel, TlsConfig, resolved, unstable_device};

use failback_model::limits::CONFIG_MAX_BYTES;
use failback_model::{Code, Finding};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A type that a configuration file is read into.
pub trait Config: DeserializeOwned + JsonSchema {
    /// What is wrong although every value alone is right.
    fn faults(&self) -> Vec<Fault>;
}

/// Something wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key from the top, joined by dots; tables of a list by their number from 0: `machine.0.disk.1.id`.
    pub key: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Fault {
    /// A fault of a key.
    pub fn new(key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// The same fault seen from a table that contains the key's table.
    pub fn within(self, table: &str) -> Self {
        Self { key: format!("{table}.{}", self.key), ..self }
    }
}

/// Loads and checks a configuration file; gives every fault with its place.
pub fn load<C: Config>(path: &Path) -> Result<C, Vec<Finding>> {
    let text = read(path).map_err(|error| {
        let evidence = format!("cannot read {}: {error}", path.display());
        vec![
            Finding::error(Code::ConfigInvalid, evidence)
                .with_remedy("check the path of --config and who may read it"),
        ]
    })?;
    parse(&text, path)
}

/// Parses and checks a configuration; `path` only names it.
pub fn parse<C: Config>(text: &str, path: &Path) -> Result<C, Vec<Finding>> {
    let finding = |at: Option<usize>, reason: &str, remedy: &str| {
        let place = at.map_or_else(String::new, |at| {
            let (line, column) = locate::line_and_column(text, at);
            format!("{line}:{column}: ")
        });
        Finding::error(Code::ConfigInvalid, format!("{}:{place}{reason}", path.display())).with_remedy(remedy)
    };
    let config: C = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| span.start);
        vec![finding(at, error.message(), remedy_for(error.message()))]
    })?;
    let faults = config.faults();
    if faults.is_empty() {
        return Ok(config);
    }
    let told = |fault: &Fault| {
        let reason = format!("{}: {}", fault.key, fault.reason);
        finding(locate::offset_of(text, &fault.key), &reason, &fault.remedy)
    };
    Err(faults.iter().map(told).collect())
}

/// Reads a text of bounded length.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(CONFIG_MAX_BYTES + 1).read_to_string(&mut text)?;
    if length as u64 > CONFIG_MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {CONFIG_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// What to do about a value that its own type refused.
fn remedy_for(reason: &str) -> &'static str {
    if reason.starts_with("unknown field") {
        "correct the key's name or remove it; docs/config.md lists every key"
    } else if reason.starts_with("missing field") {
        "add the key; docs/config.md says what it means"
    } else if reason.starts_with("unknown variant") || reason.starts_with("invalid") {
        "correct the value; docs/config.md says what it may be"
    } else {
        Code::ConfigInvalid.remedy()
    }
}

#[cfg(test)]
mod tests;
