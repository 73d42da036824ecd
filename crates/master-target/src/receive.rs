//! One session of one disk: admit the peer, open the target, answer, receive.

use crate::site::Site;
use failback_model::{Code, Finding, PeerIdentity};
use failback_transport::{Host, LinkAcceptor, Refusal};
use failback_wire::{Open, Welcome};
use std::sync::Arc;

/// Takes sessions from the network.
pub struct Receive {
    site: Arc<Site>,
}

impl Receive {
    /// For this site.
    pub fn new(site: Arc<Site>) -> Self {
        Self { site }
    }
}

impl Host for Receive {
    async fn open(&self, peer: PeerIdentity, open: Open) -> Result<(Welcome, LinkAcceptor), Refusal> {
        let refuse = |finding: &Finding| self.site.refused(Some(&peer), finding);
        let admission =
            self.site.admit(&peer, &open.machine, &open.disk).await.map_err(|why| refuse(&why))?;
        let finding = Finding::error(Code::Internal, "sessions are not joined to passes");
        admission.status.failed(&finding);
        Err(refuse(&finding))
    }
}
