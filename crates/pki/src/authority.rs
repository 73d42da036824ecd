//! The authority: what can be asked of it.

use crate::error::PkiError;
use crate::files::{self, Secrecy};
use crate::index::{AuthorityRecord, CertificateRecord, CertificateState, Overview, system_time, unix};
use crate::sign::{self, Pair, Signer};
use failback_blockio::{folder_of, sync_folder};
use failback_model::limits::{CLOCK_SKEW_MAX, PKI_CERTIFICATES_MAX, PKI_NAMES_MAX};
use failback_model::{Code, PeerIdentity};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// When a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    from: SystemTime,
    until: SystemTime,
}

impl Validity {
    /// From a time to another, seconds counting.
    pub fn between(from: SystemTime, until: SystemTime) -> Self {
        Self { from, until }
    }

    /// So many days from now on; begins a little earlier, as much as the peers' clocks may differ.
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { from: now - CLOCK_SKEW_MAX, until: now + Duration::from_secs(u64::from(days) * 24 * 3600) }
    }
}

/// What is to be certified.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose certificate.
    pub identity: PeerIdentity,
    /// DNS names that it is reached by. The daemons themselves compare identities only.
    pub dns_names: Vec<String>,
    /// Addresses that it is reached by.
    pub addresses: Vec<IpAddr>,
    /// When it holds.
    pub validity: Validity,
}

impl Request {
    /// For an identity and nothing else.
    pub fn new(identity: PeerIdentity, validity: Validity) -> Self {
        Self { identity, dns_names: Vec::new(), addresses: Vec::new(), validity }
    }
}

/// A new certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Its entry in the index.
    pub record: CertificateRecord,
    /// Its files in the authority's folder.
    pub files: Bundle,
}

/// The files that a daemon needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The revocation list.
    pub crl: PathBuf,
}

/// Which certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of an identity that are not revoked yet.
    Identity(PeerIdentity),
    /// The one with this serial number, hexadecimal.
    Serial(String),
}

/// An authority that is open: other commands on the same folder wait until it is dropped.
pub struct Authority {
    folder: PathBuf,
    overview: Overview,
    signer: Signer,
    _lock: File,
}

impl Authority {
    /// Makes an authority in a folder that does not exist or is empty; all of it appears at once.
    pub fn init(folder: &Path, name: &str, validity: Validity) -> Result<Self, PkiError> {
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            let reason = format!("an authority's name has 1 to 64 characters, not {name:?}");
            return Err(PkiError::new(Code::PkiIdentityInvalid, folder, reason));
        }
        let (not_before, not_after) = check_validity(validity, folder)?;
        let record = AuthorityRecord { name: name.into(), serial: sign::new_serial(), not_before, not_after };
        let pair = sign::authority(&record, folder)?;
        let draft = files::draft_of(&absolute(folder)?);
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PkiError::io(Code::CreateFailed, &draft, "remove an older draft", error));
            }
            _ => {}
        }
        files::create_folder(&draft)?;
        files::replace(&draft.join("ca-key.pem"), pair.key.as_bytes(), Secrecy::Secret)?;
        files::replace(&draft.join("ca.pem"), pair.certificate.as_bytes(), Secrecy::Public)?;
        Overview::new(record).write(&draft)?;
        // Opening writes the first revocation list.
        drop(Self::open(&draft)?);
        fs::rename(&draft, folder).map_err(|error| {
            let _removed = fs::remove_dir_all(&draft);
            match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
                    PkiError::new(Code::PkiExists, folder, "the path exists and is not an empty folder")
                }
                _ => PkiError::io(Code::CreateFailed, folder, "create", error),
            }
        })?;
        sync_folder(folder_of(&absolute(folder)?))?;
        Self::open(folder)
    }

    /// Opens an authority; finishes a revocation that was cut short.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        // Looked for first: a lock file is not left in a folder that is no authority's.
        Overview::read(folder)?;
        let lock = files::lock(folder)?;
        let overview = Overview::read(folder)?;
        let pair = Pair {
            certificate: files::read_text(&folder.join("ca.pem"))?,
            key: files::read_text(&folder.join("ca-key.pem"))?,
        };
        let signer = Signer::new(&overview.authority, &pair, folder)?;
        let mut authority = Self { folder: folder.into(), overview, signer, _lock: lock };
        if authority.overview.crl_written != authority.overview.crl_number {
            authority.write_revocation_list()?;
        }
        Ok(authority)
    }

    /// What was issued.
    pub fn overview(&self) -> &Overview {
        &self.overview
    }

    /// Issues the first certificate of an identity, or the first after the others were revoked or expired.
    pub fn issue(&mut self, request: &Request) -> Result<Issued, PkiError> {
        let now = SystemTime::now();
        if let Some(record) = self.overview.newest(&request.identity)
            && record.state(now) == CertificateState::Valid
        {
            let reason = format!("{} has a valid certificate, serial {}", request.identity, record.serial);
            return Err(PkiError::new(Code::PkiCertificateExists, &self.folder, reason));
        }
        self.sign(request)
    }

    /// Issues the next certificate of an identity, with a new key and the names of the one before. That one stays
    /// valid, so that daemons can change over without a gap.
    pub fn renew(&mut self, identity: &PeerIdentity, validity: Validity) -> Result<Issued, PkiError> {
        let record = self.overview.newest(identity).ok_or_else(|| self.unknown(&identity.to_string()))?;
        let request = Request {
            identity: identity.clone(),
            dns_names: record.dns_names.clone(),
            addresses: record.addresses.clone(),
            validity,
        };
        self.sign(&request)
    }

    /// Revokes certificates and writes the revocation list; returns those that the selection names. Revoking twice
    /// changes nothing.
    pub fn revoke(&mut self, which: &Selection) -> Result<Vec<CertificateRecord>, PkiError> {
        let chosen = |record: &CertificateRecord| match which {
            Selection::Identity(identity) => record.identity == identity.to_string(),
            Selection::Serial(serial) => record.serial.eq_ignore_ascii_case(serial),
        };
        let now = unix(SystemTime::now());
        let mut revoked = Vec::new();
        let mut is_new = false;
        for record in self.overview.certificates.iter_mut().filter(|record| chosen(record)) {
            is_new |= record.revoked_at.is_none();
            record.revoked_at.get_or_insert(now);
            revoked.push(record.clone());
        }
        if revoked.is_empty() {
            return Err(self.unknown(&match which {
                Selection::Identity(identity) => identity.to_string(),
                Selection::Serial(serial) => format!("serial {serial}"),
            }));
        }
        if is_new {
            self.overview.crl_number += 1;
            self.overview.write(&self.folder)?;
            self.write_revocation_list()?;
        }
        Ok(revoked)
    }

    /// Copies what a daemon needs into a folder: `cert.pem`, `key.pem`, `ca.pem`, `crl.pem`.
    pub fn export(&self, identity: &PeerIdentity, folder: &Path) -> Result<Bundle, PkiError> {
        let from = self.bundle(identity);
        if !from.cert.exists() {
            return Err(self.unknown(&identity.to_string()));
        }
        files::create_folder(folder)?;
        let to = Bundle {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            ca: folder.join("ca.pem"),
            crl: folder.join("crl.pem"),
        };
        for (from, to, secrecy) in [
            (&from.key, &to.key, Secrecy::Secret),
            (&from.cert, &to.cert, Secrecy::Public),
            (&from.ca, &to.ca, Secrecy::Public),
            (&from.crl, &to.crl, Secrecy::Public),
        ] {
            files::replace(to, files::read_text(from)?.as_bytes(), secrecy)?;
        }
        Ok(to)
    }

    /// Where the files of an identity are.
    pub fn bundle(&self, identity: &PeerIdentity) -> Bundle {
        let folder = self.folder.join("issued").join(identity.role().as_str()).join(identity.name());
        Bundle {
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            ca: self.folder.join("ca.pem"),
            crl: self.folder.join("crl.pem"),
        }
    }

    fn sign(&mut self, request: &Request) -> Result<Issued, PkiError> {
        let (not_before, not_after) = check_validity(request.validity, &self.folder)?;
        self.check_room(request)?;
        let authority = &self.overview.authority;
        if not_before < authority.not_before || not_after > authority.not_after {
            let reason = "the authority's own certificate does not hold that long";
            return Err(PkiError::new(Code::PkiAuthorityExpires, &self.folder, reason));
        }
        let record = CertificateRecord {
            serial: sign::new_serial(),
            identity: request.identity.to_string(),
            dns_names: request.dns_names.clone(),
            addresses: request.addresses.clone(),
            not_before,
            not_after,
            revoked_at: None,
        };
        let pair = self.signer.leaf(&record, &self.folder)?;
        self.overview.certificates.push(record.clone());
        self.overview.write(&self.folder)?;
        let files = self.bundle(&request.identity);
        files::create_folder(folder_of(&files.key))?;
        files::replace(&files.key, pair.key.as_bytes(), Secrecy::Secret)?;
        files::replace(&files.cert, pair.certificate.as_bytes(), Secrecy::Public)?;
        Ok(Issued { record, files })
    }

    fn check_room(&self, request: &Request) -> Result<(), PkiError> {
        let invalid = |reason: String| Err(PkiError::new(Code::PkiIdentityInvalid, &self.folder, reason));
        if request.dns_names.len() + request.addresses.len() > PKI_NAMES_MAX {
            return invalid(format!("more than {PKI_NAMES_MAX} names in one certificate"));
        }
        let is_name = |name: &String| rustls_pki_types::DnsName::try_from(name.as_str()).is_ok();
        if let Some(name) = request.dns_names.iter().find(|name| !is_name(name)) {
            return invalid(format!("{name:?} is no DNS name"));
        }
        if self.overview.certificates.len() >= PKI_CERTIFICATES_MAX {
            let reason = format!("the authority has issued {PKI_CERTIFICATES_MAX} certificates");
            return Err(PkiError::new(Code::PkiAuthorityExpires, &self.folder, reason));
        }
        Ok(())
    }

    fn write_revocation_list(&mut self) -> Result<(), PkiError> {
        let path = self.folder.join("crl.pem");
        let list = self.signer.revocation_list(&self.overview, unix(SystemTime::now()), &path)?;
        files::replace(&path, list.as_bytes(), Secrecy::Public)?;
        self.overview.crl_written = self.overview.crl_number;
        self.overview.write(&self.folder)
    }

    fn unknown(&self, what: &str) -> PkiError {
        PkiError::new(Code::PkiUnknown, &self.folder, format!("no certificate of {what} that is not revoked"))
    }
}

fn absolute(folder: &Path) -> Result<PathBuf, PkiError> {
    std::path::absolute(folder).map_err(|error| PkiError::io(Code::OpenFailed, folder, "find", error))
}

/// Seconds since 1970 of both ends.
fn check_validity(validity: Validity, folder: &Path) -> Result<(u64, u64), PkiError> {
    let (from, until) = (unix(validity.from), unix(validity.until));
    if system_time(from) >= system_time(until) {
        let reason = "a certificate's validity ends after it begins";
        return Err(PkiError::new(Code::PkiIdentityInvalid, folder, reason));
    }
    Ok((from, until))
}
