//! How a user names a source.
//!
//! **Invariant**: a signature (`sig=` of a SAS) is never part of what a user writes in the open: it lies in a file, in the
//! environment or among the service's credentials.

use crate::arm::AzureDisk;
use failback_image::ImageSpec;
use failback_model::{Code, Finding};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// An image or device of this host.
    Local(ImageSpec),
    /// `nbd://`, `nbds://`, `nbd+unix://`, `nbds+unix://`: an NBD URI.
    Nbd(String),
    /// `azblob:WHERE`, or `https://` without a signature: a page blob.
    Blob(BlobAddress),
    /// `azdisk:/subscriptions/…/disks/NAME`: a managed disk, read through the snapshots that cycles take of it.
    Managed(AzureDisk),
}

/// Where the URL of a page blob stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobAddress {
    /// `azblob:@PATH`: the first line of a file.
    File(PathBuf),
    /// `azblob:env:NAME`: an environment variable.
    Environment(String),
    /// `azblob:credential:NAME`: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A URL that holds no secret.
    Url(String),
}

impl SourceSpec {
    /// Understands what was written; a signature in the open is refused, without repeating it.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self, Finding> {
        let Some(words) = text.as_ref().to_str() else { return Ok(Self::Local(ImageSpec::parse(text))) };
        if ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"].iter().any(|scheme| words.starts_with(scheme))
        {
            return Ok(Self::Nbd(words.into()));
        }
        if let Some(path) = words.strip_prefix("azdisk:") {
            return AzureDisk::parse(path).map(Self::Managed);
        }
        let address = match words.strip_prefix("azblob:") {
            Some(rest) => Some(BlobAddress::parse(rest)),
            None if words.starts_with("https://") || words.starts_with("http://") => {
                Some(BlobAddress::Url(words.into()))
            }
            None => None,
        };
        match address {
            Some(BlobAddress::Url(url)) if has_signature(&url) => {
                Err(Finding::error(Code::SecretExposed, "the source's URL holds a signature (sig=)"))
            }
            Some(address) => Ok(Self::Blob(address)),
            None => Ok(Self::Local(ImageSpec::parse(text))),
        }
    }

    /// Whether a text names a source behind a network, as far as its first letters tell.
    pub fn is_remote(text: &OsStr) -> bool {
        let bytes = text.as_bytes();
        ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "azblob:", "azdisk:", "https://", "http://"]
            .iter()
            .any(|scheme| bytes.starts_with(scheme.as_bytes()))
    }
}

impl BlobAddress {
    fn parse(rest: &str) -> Self {
        if let Some(path) = rest.strip_prefix('@') {
            Self::File(path.into())
        } else if let Some(name) = rest.strip_prefix("env:") {
            Self::Environment(name.into())
        } else if let Some(name) = rest.strip_prefix("credential:") {
            Self::Credential(name.into())
        } else {
            Self::Url(rest.into())
        }
    }
}

fn has_signature(url: &str) -> bool {
    url.split(['?', '&'])
        .skip(1)
        .any(|part| part.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("sig=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_by_how_they_begin() {
        let of = |text: &str| SourceSpec::parse(text).expect("understood");
        assert_eq!(of("nbd://h/x"), SourceSpec::Nbd("nbd://h/x".into()));
        assert_eq!(of("azblob:@/k/sas"), SourceSpec::Blob(BlobAddress::File("/k/sas".into())));
        assert_eq!(of("azblob:env:SAS"), SourceSpec::Blob(BlobAddress::Environment("SAS".into())));
        assert_eq!(of("azblob:credential:a"), SourceSpec::Blob(BlobAddress::Credential("a".into())));
        assert_eq!(of("https://h/c/b"), SourceSpec::Blob(BlobAddress::Url("https://h/c/b".into())));
        let path = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/os";
        let disk = AzureDisk::parse(path).expect("a disk");
        assert_eq!(of(&format!("azdisk:{path}")), SourceSpec::Managed(disk));
        assert!(SourceSpec::parse("azdisk:/subscriptions/s/os").is_err());
        assert_eq!(of("/x/disk.vhd"), SourceSpec::Local(ImageSpec::parse("/x/disk.vhd")));
    }

    #[test]
    fn a_signature_in_the_open_is_refused_and_not_repeated() {
        for text in ["https://h/c/b?sv=1&sig=SECRET", "azblob:https://h/c/b?sig=SECRET"] {
            let finding = SourceSpec::parse(text).expect_err("refused");
            assert_eq!(finding.code, Code::SecretExposed);
            assert!(!format!("{finding:?}").contains("SECRET"));
        }
    }
}
