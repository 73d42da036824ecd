//! The certificate authority of an installation, in one folder: `failback pki` and the tests of whoever speaks TLS.
//!
//! | file | mode | what |
//! |---|---|---|
//! | `ca.pem` | 0644 | certificate of the authority: every daemon trusts it |
//! | `ca-key.pem` | 0600 | its key: whoever reads it can be anyone |
//! | `crl.pem` | 0644 | revocation list, to be brought to every daemon after `revoke` |
//! | `index.json` | 0644 | what was issued, see [`Overview`]; the revocation list is made from it |
//! | `issued/ROLE/NAME/cert.pem`, `key.pem` | 0644, 0600 | the newest certificate of each identity |
//! | `lock` | 0600 | held while one of the commands runs |
//!
//! Beside it stands what signs receipts, [`ReceiptKey`]: a key of a master target alone, no part of the authority.
//!
//! A certificate names its holder by a URI, [`failback_model::PeerIdentity`], and may serve either end of a connection:
//! what a holder may do is decided by its identity alone.
//!
//! **Invariant**: a certificate stands in the index before it exists, so whatever was signed can be revoked; files are
//! replaced whole or not at all; a key is never readable by others, not even for a moment.

mod authority;
mod error;
mod files;
mod index;
mod receipt_key;
mod sign;

pub use authority::{Authority, Bundle, Issued, Request, Selection, Validity};
pub use error::PkiError;
pub use index::{AuthorityRecord, CertificateRecord, CertificateState, Overview};
pub use receipt_key::{ReceiptKey, is_signed};
