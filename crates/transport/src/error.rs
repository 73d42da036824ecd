//! Why there is no connection, or no longer one.

use failback_model::{Code, Finding};
use std::error::Error;
use std::io;
use std::sync::Arc;

/// Where it failed: what an operator looks at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Files of certificates and keys.
    Files,
    /// The name or address of the other end.
    Address,
    /// The network.
    Tcp,
    /// The TLS handshake: certificates, their validity, their authority.
    Tls,
    /// Who the other end is.
    Identity,
    /// The first frame and its answer.
    Setup,
    /// A session that stood.
    Link,
}

impl Layer {
    /// Word used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Address => "address",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::Setup => "setup",
            Self::Link => "link",
        }
    }
}

/// What failed, with whom, and why. Cloned to everyone who asks why a link ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{with}: {reason}")]
pub struct TransportError {
    /// Stable code.
    pub code: Code,
    /// Where it failed.
    pub layer: Layer,
    /// Address, identity or path.
    pub with: String,
    /// In words, cause included.
    pub reason: String,
    /// The other end said it, of itself.
    pub is_refusal: bool,
    /// What was found below.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl TransportError {
    pub(crate) fn new(code: Code, layer: Layer, with: impl ToString, reason: impl Into<String>) -> Self {
        Self { code, layer, with: with.to_string(), reason: reason.into(), is_refusal: false, source: None }
    }

    /// A failure of reading or writing; what TLS says stands inside it.
    pub(crate) fn io(layer: Layer, with: impl ToString, error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (code, layer, reason) = match (tls, error.kind()) {
            (Some(tls), _) => tls_reason(tls),
            (None, io::ErrorKind::TimedOut) => (Code::TimedOut, layer, "the network gave no answer".into()),
            (None, io::ErrorKind::UnexpectedEof) => {
                (Code::ConnectionLost, layer, "the other end closed the connection without a goodbye".into())
            }
            (None, _) => (Code::ConnectionLost, layer, error.to_string()),
        };
        Self { source: Some(Arc::new(error)), ..Self::new(code, layer, with, reason) }
    }

    pub(crate) fn timed_out(layer: Layer, with: impl ToString, what: &str) -> Self {
        Self::new(Code::TimedOut, layer, with, format!("timed out: {what}"))
    }

    pub(crate) fn violation(layer: Layer, with: impl ToString, reason: impl Into<String>) -> Self {
        Self::new(Code::ProtocolViolation, layer, with, reason)
    }

    /// Whether it came from somebody who showed no certificate at all: noise of the network.
    pub(crate) fn is_of_a_stranger(&self) -> bool {
        let io = self.source.as_ref().and_then(|source| source.downcast_ref::<io::Error>());
        let tls = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(self.layer, Layer::Tcp | Layer::Tls)
            && !matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
    }

    /// As a finding with the code's own remedy; where the other end's disks and files are meant, it says so.
    pub fn to_finding(&self) -> Finding {
        let finding = Finding::error(self.code, self.to_string());
        match self.is_refusal && is_of_one_host(self.code) {
            true => finding.with_remedy(format!("there, at {}: {}", self.with, self.code.remedy())),
            false => finding,
        }
    }
}

/// Whether a code speaks of the disks, files and journals of the host that says it.
fn is_of_one_host(code: Code) -> bool {
    let disks_in_use = matches!(code, Code::InUse) || ["FB302", "FB303", "FB304"].contains(&code.as_str());
    disks_in_use || ["FB1", "FB2", "FB6"].iter().any(|group| code.as_str().starts_with(group))
}

/// What a failure of TLS means to the operator.
fn tls_reason(error: &rustls::Error) -> (Code, Layer, String) {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
    let ours = |what: &str| format!("the other end refused this end's certificate: {what}");
    let theirs = |what: &str| format!("the other end's certificate {what}");
    let reason = match error {
        Tls::InvalidCertificate(Bad::Other(other)) => {
            // The verifier's own words, about an identity.
            return (Code::TlsFailed, Layer::Identity, other.to_string());
        }
        Tls::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => theirs("has expired"),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                theirs("is not yet valid: renew it, or set the clocks")
            }
            Bad::Revoked => theirs("was revoked"),
            Bad::UnknownIssuer => theirs("comes from another authority than the one trusted here"),
            Bad::UnknownRevocationStatus => theirs("is not covered by the revocation list given here"),
            other => theirs(&format!("is not acceptable: {other}")),
        },
        Tls::NoCertificatesPresented => "the other end has no certificate".into(),
        Tls::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => ours("it has expired, or is not yet valid there"),
            Alert::CertificateRevoked => ours("it was revoked"),
            Alert::UnknownCA => ours("it comes from an authority that is not trusted there"),
            Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
                ours("it is not acceptable there")
            }
            Alert::CertificateRequired => ours("it has none"),
            other => format!("the other end gave up: {other:?}"),
        },
        Tls::InvalidMessage(_)
        | Tls::InappropriateMessage { .. }
        | Tls::InappropriateHandshakeMessage { .. } => "the other end does not speak TLS 1.3".into(),
        other => other.to_string(),
    };
    (Code::TlsFailed, Layer::Tls, reason)
}
