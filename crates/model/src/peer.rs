//! Who a certificate says a peer is: the URI among its alternative names.
//!
//! **Invariant**: an identity has one text form, `failback://ROLE/NAME`, and NAME follows the rule of ids; so two
//! identities are equal exactly where their texts are, and an allow-list can compare text.

use crate::identity::{IdentityError, MachineId};
use std::fmt;
use std::str::FromStr;

/// How every identity begins.
const SCHEME: &str = "failback://";

/// What a certificate's holder may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerRole {
    /// Reads disks in the cloud.
    ProcessServer,
    /// Writes disks at the site.
    MasterTarget,
    /// A person, with the command line.
    Operator,
}

impl PeerRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::ProcessServer, Self::MasterTarget, Self::Operator];

    /// As it stands in a URI and on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProcessServer => "process-server",
            Self::MasterTarget => "master-target",
            Self::Operator => "operator",
        }
    }
}

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    role: PeerRole,
    name: String,
}

/// A text that is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdentityError {
    /// Another scheme, or no role.
    #[error("an identity reads failback://ROLE/NAME, with ROLE process-server, master-target or operator")]
    Form,
    /// The name is no id.
    #[error(transparent)]
    Name(#[from] IdentityError),
}

impl PeerIdentity {
    /// Checks the name.
    pub fn new(role: PeerRole, name: &str) -> Result<Self, PeerIdentityError> {
        // A peer's name follows the rule of a machine's.
        Ok(Self { role, name: MachineId::new(name)?.into() })
    }

    /// What it is.
    pub fn role(&self) -> PeerRole {
        self.role
    }

    /// Which one.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role.as_str(), self.name)
    }
}

impl FromStr for PeerIdentity {
    type Err = PeerIdentityError;

    fn from_str(text: &str) -> Result<Self, PeerIdentityError> {
        let path = text.strip_prefix(SCHEME).ok_or(PeerIdentityError::Form)?;
        let (role, name) = path.split_once('/').ok_or(PeerIdentityError::Form)?;
        let role = PeerRole::ALL.into_iter().find(|known| known.as_str() == role);
        Self::new(role.ok_or(PeerIdentityError::Form)?, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_text() {
        for text in
            ["failback://process-server/azure-1", "failback://master-target/a", "failback://operator/x.y_z"]
        {
            assert_eq!(text.parse::<PeerIdentity>().map(|peer| peer.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "failback://",
            "failback://operator",
            "failback://operator/",
            "failback://Operator/a",
            "failback://operator/A",
            "failback://operator/a/b",
            "failback://operator/a ",
            "FAILBACK://operator/a",
            "https://operator/a",
            "failback://configuration-server/a",
        ] {
            assert!(text.parse::<PeerIdentity>().is_err(), "{text:?}");
        }
    }
}
