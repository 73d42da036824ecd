//! Whom TLS lets in: a certificate of our authority, in its time, not revoked, that names an identity.
//!
//! The chain check is webpki's; a host name is not checked, because a peer is known by the URI in its certificate
//! wherever it is reached. The connecting end compares that identity with the one it wants; the listening end takes
//! any and leaves it to the allow-list.
//!
//! **Invariant**: both ends check the same things of each other; nothing of the peer's is read before they hold.

use failback_model::{PeerIdentity, PeerIdentityError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage, RevocationOptionsBuilder};

/// What is trusted: an authority, and what it revoked.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    pub(crate) revoked: Vec<webpki::CertRevocationList<'static>>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate's identity is not the one wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityMismatch {
    #[error("the certificate names no identity (URI failback://ROLE/NAME)")]
    None,
    #[error("the certificate names more than one identity")]
    Several,
    #[error("the certificate names {0:?}: {1}")]
    Malformed(String, PeerIdentityError),
    #[error("the other end is {found}, not {wanted}")]
    Other { found: PeerIdentity, wanted: PeerIdentity },
}

impl From<IdentityMismatch> for Error {
    fn from(mismatch: IdentityMismatch) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch))))
    }
}

impl Trust {
    /// Checks a chain as it was presented.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), webpki::Error> {
        let lists: Vec<&webpki::CertRevocationList<'_>> = self.revoked.iter().collect();
        // Without a list nothing can be revoked; with one, whatever it does not cover is refused. A list does not
        // expire: a site that is cut off keeps its daemons.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(RevocationOptionsBuilder::build);
        EndEntityCert::try_from(leaf)?
            .verify_for_usage(self.algorithms.all, &self.anchors, intermediates, now, usage, revocation, None)
            .map(|_| ())
    }

    /// Whether a certificate that was good at its handshake is still trusted. Its age is not asked: a transfer of
    /// many hours outlives a certificate, and the next handshake asks.
    pub(crate) fn still_holds(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        match self.check(leaf, intermediates, now, usage) {
            Err(webpki::Error::CertExpired { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(as_tls(error)),
        }
    }
}

/// The identity that a certificate names.
pub(crate) fn identity_of(leaf: &CertificateDer<'_>) -> Result<PeerIdentity, Error> {
    let leaf = EndEntityCert::try_from(leaf).map_err(as_tls)?;
    let mut uris = leaf.valid_uri_names();
    let uri = uris.next().ok_or(IdentityMismatch::None)?;
    if uris.next().is_some() {
        return Err(IdentityMismatch::Several.into());
    }
    uri.parse().map_err(|error| IdentityMismatch::Malformed(uri.into(), error).into())
}

/// What the peer is told, and what this end says.
pub(crate) fn as_tls(error: webpki::Error) -> Error {
    use webpki::Error as Pki;
    Error::InvalidCertificate(match error {
        Pki::CertExpired { .. } => CertificateError::Expired,
        Pki::CertNotValidYet { .. } => CertificateError::NotValidYet,
        Pki::CertRevoked => CertificateError::Revoked,
        // A signature that does not fit is that of another authority with the same name.
        Pki::UnknownIssuer | Pki::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        Pki::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Pki::InvalidCrlSignatureForPublicKey => return rustls::CertRevocationListError::BadSignature.into(),
        Pki::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        Pki::BadDer | Pki::BadDerTime | Pki::TrailingData(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// The connecting end's check of a listener.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) trust: Arc<Trust>,
    pub(crate) wanted: PeerIdentity,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust.check(leaf, intermediates, now, KeyUsage::server_auth()).map_err(as_tls)?;
        let found = identity_of(leaf)?;
        if found == self.wanted {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(IdentityMismatch::Other { found, wanted: self.wanted.clone() }.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// The listening end's check of a client.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) trust: Arc<Trust>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check(leaf, intermediates, now, KeyUsage::client_auth()).map_err(as_tls)?;
        identity_of(leaf)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
