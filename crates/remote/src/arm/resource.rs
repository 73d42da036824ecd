//! Names of the cloud's resources.
//!
//! **Invariant**: a path that a request is made of has only the characters of Azure's names, so nothing a user or the cloud
//! wrote leads a request elsewhere.

use failback_model::{Code, Finding};
use std::fmt;

/// A managed disk: `/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureDisk(String);

impl AzureDisk {
    /// Understands a disk's path, as `az disk show --query id` prints it.
    pub fn parse(path: &str) -> Result<Self, Finding> {
        match parts(path).as_slice() {
            ["subscriptions", _, "resourcegroups", _, "providers", "microsoft.compute", "disks", _] => {
                Ok(Self(path.into()))
            }
            _ => Err(Finding::error(Code::SourceUnsupported, format!("{path} names no managed disk"))
                .with_remedy("name it as 'az disk show --query id' prints it: azdisk:/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/NAME")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        last(&self.0)
    }

    /// The group it lies in, where its snapshots are made too.
    pub(crate) fn group(&self) -> &str {
        let end = self.0.match_indices('/').nth(4).map_or(self.0.len(), |(at, _)| at);
        &self.0[..end]
    }
}

impl fmt::Display for AzureDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether two paths name the same resource: Azure minds no letter case.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Last part of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A path that the cloud named, if a request may be made of it.
pub(crate) fn checked(path: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-()".contains(c);
    let is_safe = path.starts_with("/subscriptions/") && path.len() <= 1024 && path.chars().all(is_plain);
    (is_safe && path.split('/').skip(1).all(|part| !part.is_empty() && part != "..")).then_some(path)
}

/// Words of a path; those that Azure gives, in lower case.
fn parts(path: &str) -> Vec<&str> {
    const WORDS: [&str; 5] = ["subscriptions", "resourcegroups", "providers", "microsoft.compute", "disks"];
    let word = |part: &'static str, text: &str| text.eq_ignore_ascii_case(part).then_some(part);
    let known = |text| WORDS.into_iter().find_map(|part| word(part, text));
    match checked(path) {
        Some(path) => path
            .split('/')
            .skip(1)
            .enumerate()
            .map(|(at, text)| if matches!(at, 1 | 3 | 7) { text } else { known(text).unwrap_or(text) })
            .collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_is_a_disk() {
        let path = "/subscriptions/s-1/resourceGroups/disks/providers/Microsoft.Compute/disks/os_1";
        let disk = AzureDisk::parse(path).expect("a disk");
        assert_eq!((disk.name(), disk.group()), ("os_1", "/subscriptions/s-1/resourceGroups/disks"));
        for bad in [
            "",
            "os_1",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/snapshots/x",
            "/subscriptions/s/resourceGroups/../providers/Microsoft.Compute/disks/x",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/x?y=1",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/",
            "https://h/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/x",
        ] {
            assert!(AzureDisk::parse(bad).is_err(), "{bad}");
        }
    }
}
