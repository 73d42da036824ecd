//! The key that a master target signs receipts with. It is no key of TLS: whoever renews certificates does not touch what
//! auditors compare.
//!
//! A file of PKCS#8 in PEM, mode 0600, Ed25519.
//!
//! **Invariant**: a key that was made is durable before it signs anything; one that exists is never replaced.

use crate::error::PkiError;
use crate::files::{self, Secrecy};
use failback_format::receipt::{Receipt, SignedReceipt, fingerprint, signed_bytes};
use failback_model::{Code, Digest, Finding};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use std::path::Path;
use webpki::ring::ED25519;

/// A key that signs.
pub struct ReceiptKey {
    pair: KeyPair,
    public: [u8; 32],
}

impl ReceiptKey {
    /// Reads a key.
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        let missing = |error: PkiError| match error.code {
            Code::PkiMissing => PkiError::new(Code::ReceiptKeyInvalid, path, "no such file"),
            _ => error,
        };
        Self::of(&files::read_text(path).map_err(missing)?, path)
    }

    /// Reads a key, or makes one where there is none. The caller keeps others off the folder.
    pub fn open_or_make(path: &Path) -> Result<Self, PkiError> {
        match files::read_text(path) {
            Err(error) if error.code == Code::PkiMissing => {}
            read => return Self::of(&read?, path),
        }
        let made = KeyPair::generate_for(&PKCS_ED25519);
        let pem =
            made.map_err(|error| PkiError::new(Code::Internal, path, error.to_string()))?.serialize_pem();
        files::replace(path, pem.as_bytes(), Secrecy::Secret)?;
        Self::open(path)
    }

    fn of(pem: &str, path: &Path) -> Result<Self, PkiError> {
        let unusable = |reason: String| PkiError::new(Code::ReceiptKeyInvalid, path, reason);
        let pair = KeyPair::from_pem(pem).map_err(|error| unusable(format!("no private key: {error}")))?;
        if pair.algorithm() != &PKCS_ED25519 {
            return Err(unusable("it is no Ed25519 key".into()));
        }
        let public = pair.public_key_raw().try_into();
        let public = public.map_err(|_| unusable("its public half has a strange length".into()))?;
        Ok(Self { pair, public })
    }

    /// What people compare.
    pub fn fingerprint(&self) -> Digest {
        fingerprint(&self.public)
    }

    /// Signs a receipt.
    pub fn sign(&self, receipt: &Receipt) -> Result<SignedReceipt, Finding> {
        let failed = |reason: String| Finding::error(Code::Internal, format!("cannot sign: {reason}"));
        receipt.check().map_err(|error| failed(error.reason))?;
        let payload = receipt.payload();
        let signature = self.pair.sign(&signed_bytes(&payload)).map_err(|error| failed(error.to_string()))?;
        let signature = signature.try_into().map_err(|_| failed("a signature of strange length".into()))?;
        Ok(SignedReceipt { public_key: self.public, payload, signature })
    }
}

/// Whether the key that a receipt names signed it.
pub fn is_signed(receipt: &SignedReceipt) -> bool {
    let message = signed_bytes(&receipt.payload);
    ED25519.verify_signature(&receipt.public_key, &message, &receipt.signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// RFC 8410, section 10.3: a key that another program made, and the public half that it names (RFC 8410, 10.1).
    const FOREIGN: &str = "-----BEGIN PRIVATE KEY-----\n\
                           MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                           -----END PRIVATE KEY-----\n";
    const FOREIGN_PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    fn receipt() -> Receipt {
        let golden = include_bytes!("../../format/src/receipt/golden.json");
        SignedReceipt::decode(golden).expect("it is sound").1
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipt-key.pem");
        assert_eq!(ReceiptKey::open(&path).err().map(|error| error.code), Some(Code::ReceiptKeyInvalid));
        let made = ReceiptKey::open_or_make(&path).expect("it is made");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = ReceiptKey::open_or_make(&path).expect("it is read");
        assert_eq!(made.fingerprint(), again.fingerprint());
        let signed = made.sign(&receipt()).expect("it signs");
        assert!(is_signed(&signed));
        assert_eq!(SignedReceipt::decode(signed.encode().as_bytes()), Ok((signed, receipt())));
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
            .expect("written");
        let error = ReceiptKey::open_or_make(&path).err().expect("it is damaged, and not replaced");
        assert_eq!(error.code, Code::ReceiptKeyInvalid);
    }

    #[test]
    fn a_key_of_another_program_will_do_and_one_of_another_kind_will_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem");
        std::fs::write(&path, FOREIGN).expect("written");
        let key = ReceiptKey::open(&path).expect("it is a key");
        assert_eq!(Digest(key.public).to_string(), FOREIGN_PUBLIC);
        assert!(is_signed(&key.sign(&receipt()).expect("it signs")));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
        std::fs::write(&path, other).expect("written");
        assert_eq!(ReceiptKey::open(&path).err().map(|error| error.code), Some(Code::ReceiptKeyInvalid));
    }

    #[test]
    fn a_signature_is_of_one_key_and_one_payload() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = ["one", "other"].map(|name| ReceiptKey::open_or_make(&folder.path().join(name)));
        let (one, other) = (one.expect("a key"), other.expect("a key"));
        let signed = one.sign(&receipt()).expect("it signs");
        assert!(is_signed(&signed));
        let file = signed.encode();
        for at in 0..file.len() {
            let mut changed = file.clone().into_bytes();
            changed[at] ^= 1;
            let is_believed = SignedReceipt::decode(&changed).is_ok_and(|(changed, _)| is_signed(&changed));
            assert!(!is_believed, "byte {at}");
        }
        let theirs = SignedReceipt { public_key: other.public, ..signed };
        assert!(!is_signed(&theirs));
    }
}
