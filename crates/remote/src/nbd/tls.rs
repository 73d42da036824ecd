//! TLS of a connection to an NBD server, by certificates in the folder that libnbd's users have.
//!
//! **Invariant**: a server is who its name says, vouched for by the folder's authority, or nothing is read of it.

use super::error::NbdError;
use super::socket::{Socket, Stream};
use super::uri::{NbdUri, TlsChoice, Transport};
use failback_model::limits::TLS_FILE_MAX_BYTES;
use rustls::crypto::ring;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Where libnbd looks, too.
const FOLDER: &str = "/etc/pki/libnbd";

/// What a connection needs to speak TLS.
#[derive(Debug, Clone)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
}

impl Client {
    /// Loads the certificates that a URI names.
    pub(super) fn load(uri: &NbdUri, choice: &TlsChoice) -> Result<Self, NbdError> {
        let folder = choice.certificates.as_deref().unwrap_or(Path::new(FOLDER));
        let mut roots = RootCertStore::empty();
        for root in certificates(&folder.join("ca-cert.pem"))? {
            roots.add(root).map_err(|error| NbdError::Tls(format!("ca-cert.pem: {error}")))?;
        }
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| NbdError::Tls(error.to_string()))?
            .with_root_certificates(roots);
        let (own, key) = (folder.join("client-cert.pem"), folder.join("client-key.pem"));
        let config = if own.exists() {
            let key = PrivateKeyDer::from_pem_slice(&read(&key)?)
                .map_err(|error| NbdError::Tls(format!("{}: {error}", key.display())))?;
            let with_own = builder.with_client_auth_cert(certificates(&own)?, key);
            with_own.map_err(|error| NbdError::Tls(format!("{}: {error}", own.display())))?
        } else {
            builder.with_no_client_auth()
        };
        let name = match (&choice.hostname, &uri.transport) {
            (Some(name), _) => name.as_str(),
            (None, Transport::Tcp { host, .. }) => host.as_str(),
            (None, Transport::Unix(_)) => "localhost",
        };
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| NbdError::Tls(format!("{name:?} is no name that a certificate can have")))?;
        Ok(Self { config: Arc::new(config), server })
    }

    /// Shakes hands.
    pub(super) fn wrap(&self, socket: Socket) -> Result<Stream, NbdError> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.server.clone())
            .map_err(|error| NbdError::Tls(error.to_string()))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| match error.get_ref() {
                Some(inner) if inner.is::<rustls::Error>() => NbdError::Tls(error.to_string()),
                _ => error.into(),
            })?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NbdError> {
    let failed = |why: String| NbdError::Tls(format!("{}: {why}", path.display()));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("it holds no certificate".into())) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, NbdError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(TLS_FILE_MAX_BYTES + 1).read_to_end(&mut bytes));
    let failed = |why: String| NbdError::Tls(format!("{}: {why}", path.display()));
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > TLS_FILE_MAX_BYTES { Err(failed("it is too long".into())) } else { Ok(bytes) }
}
