//! The URL of a page blob, and where it is read from.
//!
//! **Invariant**: what names a blob in messages holds no signature.

use crate::http::SecretUrl;
use crate::spec::BlobAddress;
use failback_model::limits::BLOB_URL_MAX_BYTES;
use failback_model::{Code, Finding};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A blob, or a snapshot of one, with the signature to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlobUrl(SecretUrl);

impl BlobUrl {
    /// Understands the first line of a text.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        Self::of(SecretUrl::parse(text.lines().next().unwrap_or_default())?)
    }

    /// Takes a URL that names a blob.
    pub(super) fn of(url: SecretUrl) -> Result<Self, &'static str> {
        let names = url.expose().path().split('/').filter(|name| !name.is_empty()).count();
        if names < 2 {
            return Err("it names no blob: https://ACCOUNT/CONTAINER/BLOB is missing a part");
        }
        Ok(Self(url))
    }

    /// The same blob at the time of a snapshot.
    pub(super) fn at_snapshot(&self, snapshot: Option<&str>) -> Self {
        let Some(snapshot) = snapshot else { return self.clone() };
        Self(self.0.changed(|url| {
            let kept: Vec<_> = url.query().unwrap_or_default().split('&').map(str::to_owned).collect();
            let kept = kept.into_iter().filter(|part| !part.is_empty() && !part.starts_with("snapshot="));
            let query = kept.collect::<Vec<_>>().join("&");
            url.set_query(Some(&query).filter(|query| !query.is_empty()).map(String::as_str));
            url.query_pairs_mut().append_pair("snapshot", snapshot);
        }))
    }

    /// The time of the snapshot that it names.
    pub(super) fn snapshot(&self) -> Option<String> {
        let named = |(key, value): (_, _)| (key == "snapshot").then_some(value);
        self.0.expose().query_pairs().find_map(named).map(|value| value.into_owned())
    }

    /// The URL with more to ask; what is signed stays as it is.
    pub(super) fn asking(&self, pairs: &[(&str, &str)]) -> SecretUrl {
        if pairs.is_empty() {
            return self.0.clone();
        }
        self.0.changed(|url| {
            url.query_pairs_mut().extend_pairs(pairs);
        })
    }

    /// Whether its signature's time is over at `now` (seconds since 1970); none: it does not say.
    pub(super) fn has_expired(&self, now: i64) -> Option<bool> {
        let (_, expiry) = self.0.expose().query_pairs().find(|(key, _)| key == "se")?;
        let expiry: jiff::Timestamp = expiry.parse().ok()?;
        Some(expiry.as_second() <= now)
    }

    /// The whole URL: a secret.
    pub(super) fn expose(&self) -> &str {
        self.0.expose().as_str()
    }

    /// The container's URL and the blob's name in it. Emulators have the account's name before the container's.
    pub(super) fn container(&self) -> (SecretUrl, String) {
        let url = self.0.expose();
        let is_address = matches!(url.host_str(), Some(host) if host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok());
        let container_parts = if is_address { 2 } else { 1 };
        let parts: Vec<_> = url.path().trim_start_matches('/').split('/').collect();
        let (container, blob) = parts.split_at(container_parts.min(parts.len().saturating_sub(1)));
        let (container, blob) = (container.join("/"), blob.join("/"));
        (self.0.changed(|url| url.set_path(&container)), blob)
    }

    /// What to call it: host, path and snapshot.
    pub(super) fn name(&self) -> PathBuf {
        match self.snapshot() {
            Some(snapshot) => format!("{}@{snapshot}", self.0).into(),
            None => self.0.to_string().into(),
        }
    }
}

impl BlobAddress {
    /// Where the URL stands, as messages name it.
    pub(super) fn place(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Environment(name) => format!("env:{name}").into(),
            Self::Credential(name) => format!("credential:{name}").into(),
            Self::Url(url) => url.split(['?', '#']).next().unwrap_or_default().into(),
        }
    }

    /// The file that holds it; none where it is no file.
    fn file(&self) -> Option<Result<PathBuf, Finding>> {
        match self {
            Self::File(path) => Some(Ok(path.clone())),
            Self::Credential(name) => Some(match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(_) if name.contains('/') => Err(self.unreadable("a credential's name is no path")),
                Some(folder) => Ok(Path::new(&folder).join(name)),
                None => {
                    Err(self.unreadable("$CREDENTIALS_DIRECTORY is not set: the service manager sets it"))
                }
            }),
            Self::Environment(_) | Self::Url(_) => None,
        }
    }

    /// Whether what it holds can become another text while this program runs.
    pub(super) fn can_change(&self) -> bool {
        matches!(self, Self::File(_) | Self::Credential(_))
    }

    /// The text at the address: a URL for [`BlobUrl::parse`].
    pub(super) fn text(&self) -> Result<String, Finding> {
        match (self.file(), self) {
            (Some(path), _) => {
                let mut text = String::new();
                File::open(path?)
                    .and_then(|file| file.take(BLOB_URL_MAX_BYTES).read_to_string(&mut text))
                    .map_err(|error| self.unreadable(&error.to_string()))?;
                Ok(text)
            }
            (None, Self::Environment(name)) => {
                std::env::var(name).map_err(|_| self.unreadable("the variable is not set, or is no text"))
            }
            (None, Self::Url(url)) => Ok(url.clone()),
            (None, Self::File(_) | Self::Credential(_)) => unreachable!("these are files"),
        }
    }

    /// The URL at the address.
    pub(super) fn url(&self) -> Result<BlobUrl, Finding> {
        BlobUrl::parse(&self.text()?).map_err(|reason| self.unreadable(reason))
    }

    /// A warning where others may read a file with a secret.
    pub(super) fn exposure(&self) -> Option<Finding> {
        let Self::File(path) = self else { return None };
        let mode = path.metadata().ok()?.permissions().mode() & 0o777;
        let evidence = format!("{} has mode {mode:04o}", path.display());
        (mode & 0o077 != 0).then(|| Finding::warning(Code::SecretExposed, evidence).about(path))
    }

    fn unreadable(&self, reason: &str) -> Finding {
        let place = self.place();
        Finding::error(Code::OpenFailed, format!("URL of a page blob in {}: {reason}", place.display()))
            .about(place)
    }
}
