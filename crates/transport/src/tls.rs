//! Certificates of this end: loading, and changing them while links stand.
//!
//! **Invariant**: what is in force was loaded whole and fits together; a reload that fails changes nothing and says why.

use crate::error::{Layer, TransportError};
use crate::verify::{ClientVerifier, ServerVerifier, Trust, as_tls, identity_of};
use failback_model::limits::TLS_FILE_MAX_BYTES;
use failback_model::{Code, PeerIdentity};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use webpki::{CertRevocationList, KeyUsage, OwnedCertRevocationList};

/// Where the certificates of this end are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Own certificate, then intermediates if there are any.
    pub cert: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
    /// Authorities whose certificates are trusted.
    pub ca: PathBuf,
    /// Their revocation lists.
    pub crl: Option<PathBuf>,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Material {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) identity: PeerIdentity,
    expires_at: SystemTime,
    /// Configuration of a listener.
    pub(crate) server: Arc<ServerConfig>,
}

/// The certificates of this end, shared by everything that speaks TLS. A clone is the same.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    current: watch::Sender<Arc<Material>>,
}

impl Tls {
    /// Loads the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TransportError> {
        let (current, _) = watch::channel(Arc::new(Material::load(files)?));
        Ok(Self(Arc::new(Shared { files: files.clone(), current })))
    }

    /// Loads the files anew. New handshakes use them; links whose peer's certificate is no longer trusted, revoked ones
    /// above all, are closed. Where this fails, what was in force stays in force.
    pub fn reload(&self) -> Result<(), TransportError> {
        let material = Arc::new(Material::load(&self.0.files)?);
        tracing::info!(identity = %material.identity, "certificates reloaded");
        self.0.current.send_replace(material);
        Ok(())
    }

    /// The identity in this end's own certificate.
    pub fn identity(&self) -> PeerIdentity {
        self.0.current.borrow().identity.clone()
    }

    /// Last second of this end's own certificate.
    pub fn expires_at(&self) -> SystemTime {
        self.0.current.borrow().expires_at
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        self.0.current.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Material>> {
        self.0.current.subscribe()
    }
}

impl Material {
    fn load(files: &TlsFiles) -> Result<Self, TransportError> {
        let provider = Arc::new(provider());
        let chain: Vec<CertificateDer<'static>> = read_pem(&files.cert, "certificate")?;
        let key = read(&files.key)?;
        warn_if_readable_by_others(&files.key);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| bad(&files.key, error))?;
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| bad(&files.key, format!("does not fit {}: {error}", files.cert.display())))?;
        let trust = Arc::new(Trust {
            anchors: read_anchors(&files.ca)?,
            revoked: files.crl.as_deref().map_or(Ok(Vec::new()), read_lists)?,
            algorithms: provider.signature_verification_algorithms,
        });
        let leaf = &certified.cert[0];
        let identity = identity_of(leaf).map_err(|error| bad(&files.cert, error))?;
        let expires_at = expiry(&trust, &certified.cert).map_err(|error| bad(&files.cert, error))?;
        let certified = Arc::new(certified);
        let server = server_config(&provider, &certified, &trust).map_err(|error| bad(&files.cert, error))?;
        Ok(Self { provider, certified, trust, identity, expires_at, server })
    }

    /// Configuration of a connection to one peer.
    pub(crate) fn client(&self, wanted: &PeerIdentity) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier = Arc::new(ServerVerifier { trust: self.trust.clone(), wanted: wanted.clone() });
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        // The identity is in the certificate; the name of the host tells an eavesdropper only.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// Random bytes that nobody can guess.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], rustls::Error> {
        let mut bytes = [0; N];
        self.provider.secure_random.fill(&mut bytes).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        Ok(bytes)
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
    trust: &Arc<Trust>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier { trust: trust.clone() }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified.clone())));
    // A ticket would let a session outlive a revocation.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// AES-128 before AES-256: as safe here, and a third faster.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// The last second of the first certificate. The verifier is asked at the end of all time: it names that second in its
/// refusal. Whether the chain leads to an authority of ours is asked at that second.
fn expiry(trust: &Trust, chain: &[CertificateDer<'_>]) -> Result<SystemTime, rustls::Error> {
    let unrevoked =
        Trust { anchors: trust.anchors.clone(), revoked: Vec::new(), algorithms: trust.algorithms };
    let check = |at: UnixTime| unrevoked.check(&chain[0], &chain[1..], at, KeyUsage::client_auth());
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match check(end) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            check(not_after).map_err(as_tls)?;
            Ok(UNIX_EPOCH + Duration::from_secs(not_after.as_secs()))
        }
        Err(error) => Err(as_tls(error)),
        Ok(()) => Ok(UNIX_EPOCH + Duration::from_secs(u32::MAX.into())),
    }
}

fn bad(path: &Path, reason: impl ToString) -> TransportError {
    TransportError::new(Code::TlsFailed, Layer::Files, path.display(), reason.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, TransportError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(TLS_FILE_MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(
        |error| TransportError::new(Code::OpenFailed, Layer::Files, path.display(), error.to_string()),
    )?;
    match bytes.len() as u64 > TLS_FILE_MAX_BYTES {
        true => Err(bad(path, format!("longer than {TLS_FILE_MAX_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

/// All items of one kind in a file; at least one.
fn read_pem<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, TransportError> {
    let bytes = read(path)?;
    let items: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    match items {
        Ok(items) if items.is_empty() => Err(bad(path, format!("holds no {what}"))),
        Ok(items) => Ok(items),
        Err(error) => Err(bad(path, error)),
    }
}

fn read_anchors(path: &Path) -> Result<Vec<rustls_pki_types::TrustAnchor<'static>>, TransportError> {
    let certificates: Vec<CertificateDer<'static>> = read_pem(path, "certificate")?;
    let anchors = certificates
        .iter()
        .map(|certificate| webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned()));
    anchors.collect::<Result<_, _>>().map_err(|error| bad(path, error))
}

fn read_lists(path: &Path) -> Result<Vec<CertRevocationList<'static>>, TransportError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = read_pem(path, "revocation list")?;
    let parsed =
        lists.iter().map(|list| OwnedCertRevocationList::from_der(list).map(CertRevocationList::from));
    parsed.collect::<Result<_, _>>().map_err(|error| bad(path, error))
}

fn warn_if_readable_by_others(path: &Path) {
    if path.metadata().is_ok_and(|metadata| metadata.mode() & 0o004 != 0) {
        tracing::warn!(path = %path.display(), "everybody can read this key: chmod 600");
    }
}
