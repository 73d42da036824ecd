//! Access by identity instead of by a signature in the URL.

use failback_model::Finding;
use std::fmt::Debug;

/// Gives tokens of Entra for `https://storage.azure.com/` or for managed disks.
pub trait TokenSource: Send + Sync + Debug {
    /// A token that is valid for some minutes. Called before each request, so it keeps what it has.
    fn token(&self) -> Result<String, Finding>;
}
