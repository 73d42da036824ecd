//! What certificates and revocation lists of the authority look like.
//!
//! **Invariant**: keys are ECDSA P-256, which every TLS 1.3 library has; a leaf serves both ends of a connection and
//! can sign nothing; what is returned was accepted by the verifier that the daemons use.

use crate::error::PkiError;
use crate::index::{AuthorityRecord, CertificateRecord, Overview};
use failback_model::Code;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Algorithms whose signatures the verifier accepts here.
const ALGORITHMS: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] =
    &[webpki::ring::ECDSA_P256_SHA256];

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The authority's certificate and key.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// 16 random bytes, never negative and never shorter.
pub(crate) fn new_serial() -> String {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serial(hex: &str) -> Option<SerialNumber> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.0.iter().map(|&[high, low]| Some((digit(high)? * 16 + digit(low)?) as u8)).collect();
    bytes.filter(|bytes| !bytes.is_empty() && pairs.1.is_empty()).map(SerialNumber::from)
}

fn date(unix: u64) -> time::OffsetDateTime {
    date_time_ymd(1970, 1, 1) + Duration::from_secs(unix)
}

fn params(name: &str, serial_hex: &str, not_before: u64, not_after: u64) -> Option<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial(serial_hex)?);
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params.key_identifier_method = KeyIdMethod::Sha256;
    Some(params)
}

fn authority_params(record: &AuthorityRecord) -> Option<CertificateParams> {
    let mut params = params(&record.name, &record.serial, record.not_before, record.not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Some(params)
}

fn leaf_params(record: &CertificateRecord) -> Option<CertificateParams> {
    let name = record.identity.rsplit('/').next().unwrap_or_default();
    let mut params = params(name, &record.serial, record.not_before, record.not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.push(SanType::URI(Ia5String::try_from(record.identity.as_str()).ok()?));
    for name in &record.dns_names {
        params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str()).ok()?));
    }
    params.subject_alt_names.extend(record.addresses.iter().copied().map(SanType::IpAddress));
    Some(params)
}

/// Makes a new authority.
pub(crate) fn authority(record: &AuthorityRecord, path: &Path) -> Result<Pair, PkiError> {
    let params = authority_params(record).ok_or(PkiError::damaged(path, "record of the authority"))?;
    let key = new_key(path)?;
    let certificate = params.self_signed(&key).map_err(|error| cannot_sign(path, &error))?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn new_key(path: &Path) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| cannot_sign(path, &error))
}

fn cannot_sign(path: &Path, error: &rcgen::Error) -> PkiError {
    PkiError::new(Code::Internal, path, format!("cannot make a certificate: {error}"))
}

impl Signer {
    /// Puts the authority's certificate and key together again.
    pub(crate) fn new(record: &AuthorityRecord, pair: &Pair, path: &Path) -> Result<Self, PkiError> {
        let damaged = |what: String| PkiError::damaged(path, what);
        let key = KeyPair::from_pem(&pair.key).map_err(|error| damaged(format!("not a key: {error}")))?;
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes())
            .map_err(|error| damaged(format!("ca.pem is not a certificate: {error}")))?;
        let params = authority_params(record).ok_or(damaged("record of the authority".into()))?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Makes a certificate and its key; refuses what the daemons would refuse.
    pub(crate) fn leaf(&self, record: &CertificateRecord, path: &Path) -> Result<Pair, PkiError> {
        let params = leaf_params(record).ok_or(PkiError::new(
            Code::PkiIdentityInvalid,
            path,
            "a name cannot stand in a certificate: only ASCII can",
        ))?;
        let key = new_key(path)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| cannot_sign(path, &error))?;
        self.prove(certificate.der(), record.not_before, path)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Verifies a certificate as its peer will.
    fn prove(&self, leaf: &CertificateDer<'_>, at: u64, path: &Path) -> Result<(), PkiError> {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let anchor = webpki::anchor_from_trusted_cert(&self.certificate);
        let proved = anchor.and_then(|anchor| {
            webpki::EndEntityCert::try_from(leaf)?
                .verify_for_usage(ALGORITHMS, &[anchor], &[], at, webpki::KeyUsage::client_auth(), None, None)
                .map(|_| ())
        });
        proved.map_err(|error| {
            PkiError::damaged(
                path,
                format!("ca.pem, ca-key.pem and index.json do not belong together: {error}"),
            )
        })
    }

    /// The revocation list of everything revoked.
    pub(crate) fn revocation_list(
        &self,
        overview: &Overview,
        now: u64,
        path: &Path,
    ) -> Result<String, PkiError> {
        let revoked = overview.certificates.iter().filter_map(|record| {
            Some(RevokedCertParams {
                serial_number: serial(&record.serial)?,
                revocation_time: date(record.revoked_at?),
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        });
        let list = CertificateRevocationListParams {
            this_update: date(now),
            // A list holds until the next one: a site that is cut off must not lose its daemons to a date.
            next_update: date(overview.authority.not_after.max(now + 1)),
            crl_number: SerialNumber::from(overview.crl_number.to_be_bytes().to_vec()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).and_then(|list| list.pem());
        list.map_err(|error| cannot_sign(path, &error))
    }
}
