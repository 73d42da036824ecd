//! What a store trusts, as a pass takes it.

use failback_engine::Known;
use failback_store::TrustedState;

/// Digests that need no scan.
pub(crate) fn known_of(trusted: TrustedState) -> Known {
    Known { digests: Box::new(trusted.digests), ranges: trusted.ranges }
}
