//! What was issued: `index.json`, and the same as typed data for whoever shows it.
//!
//! **Invariant**: whatever the key ever signed stands here, and what is revoked is never taken back.

use crate::error::PkiError;
use crate::files::{self, Secrecy};
use failback_model::PeerIdentity;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the file.
const FORMAT: u32 = 1;

/// The authority and its certificates. Times are seconds since 1970 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    format: u32,
    /// The authority itself.
    pub authority: AuthorityRecord,
    /// Number of the newest revocation list.
    pub crl_number: u64,
    /// Number of the list that `crl.pem` holds: behind only where a revocation was cut short.
    pub crl_written: u64,
    /// Everything issued, oldest first.
    pub certificates: Vec<CertificateRecord>,
}

/// The authority's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityRecord {
    /// Common name.
    pub name: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// First second of its validity.
    pub not_before: u64,
    /// Last second of its validity.
    pub not_after: u64,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRecord {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whose: `failback://ROLE/NAME`.
    pub identity: String,
    /// DNS names that it also names.
    pub dns_names: Vec<String>,
    /// Addresses that it also names.
    pub addresses: Vec<IpAddr>,
    /// First second of its validity.
    pub not_before: u64,
    /// Last second of its validity.
    pub not_after: u64,
    /// When it was revoked, if it was.
    pub revoked_at: Option<u64>,
}

/// Whether a certificate can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// It can.
    Valid,
    /// Its validity has not begun.
    NotYetValid,
    /// Its validity is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl CertificateState {
    /// Word used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYetValid => "not-yet-valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl CertificateRecord {
    /// Whether it can be used at a time.
    pub fn state(&self, at: SystemTime) -> CertificateState {
        let at = unix(at);
        match self.revoked_at {
            Some(_) => CertificateState::Revoked,
            None if at < self.not_before => CertificateState::NotYetValid,
            None if at > self.not_after => CertificateState::Expired,
            None => CertificateState::Valid,
        }
    }
}

impl Overview {
    pub(crate) fn new(authority: AuthorityRecord) -> Self {
        Self { format: FORMAT, authority, crl_number: 1, crl_written: 0, certificates: Vec::new() }
    }

    /// Reads the list of a folder; needs no key.
    pub fn read(folder: &Path) -> Result<Self, PkiError> {
        let path = folder.join("index.json");
        let overview: Self = serde_json::from_str(&files::read_text(&path)?)
            .map_err(|error| PkiError::damaged(&path, format!("not an index: {error}")))?;
        if overview.format != FORMAT {
            return Err(PkiError::damaged(&path, format!("has format {}, not {FORMAT}", overview.format)));
        }
        Ok(overview)
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), PkiError> {
        let path = folder.join("index.json");
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| PkiError::damaged(&path, format!("cannot be written as JSON: {error}")))?;
        text.push('\n');
        files::replace(&path, text.as_bytes(), Secrecy::Public)
    }

    /// The newest certificate of an identity that was not revoked.
    pub fn newest(&self, identity: &PeerIdentity) -> Option<&CertificateRecord> {
        let identity = identity.to_string();
        self.certificates
            .iter()
            .rev()
            .find(|record| record.identity == identity && record.revoked_at.is_none())
    }
}

/// Seconds since 1970; 0 before it.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that this many seconds after 1970 were.
pub(crate) fn system_time(unix: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix)
}
