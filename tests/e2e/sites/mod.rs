//! Two sites on this host: certificates that an authority issues, a master target and process servers as processes of
//! their own, and a link between them that can be cut.
//!
//! **Invariant**: everything lies in one temporary folder and listens on a loopback address that no other test of this
//! process or of another one has; whatever was started ends with its value, also while a failed test unwinds.

mod daemon;
mod proxy;
mod stranger;

pub(crate) use daemon::{Daemon, Host, PATIENCE, job, machine};
pub(crate) use proxy::Proxy;
pub(crate) use stranger::{Stranger, open};

use crate::disks::folder;
use failback_model::PeerIdentity;
use failback_pki::{Authority, Bundle, Request, Validity};
use failback_testkit::Random;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Who the master target is.
pub(crate) const MASTER_TARGET: &str = "failback://master-target/site";
/// Who the process server of most tests is.
pub(crate) const PROCESS_SERVER: &str = "failback://process-server/azure";

/// The folder, the authority and the address of one test.
pub(crate) struct Sites {
    folder: TempDir,
    authority: RefCell<Authority>,
    address: Ipv4Addr,
}

impl Sites {
    /// Sites without daemons.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let (folder, count) = (folder(), COUNT.fetch_add(1, Ordering::Relaxed));
        let authority = Authority::init(&folder.path().join("pki"), "test", Validity::days(2));
        let process = std::process::id();
        let part = |number: u32| u8::try_from(number % 250).expect("less than 250");
        let address = Ipv4Addr::new(127, 1 + part(process), part(process / 250), count);
        Self { folder, authority: RefCell::new(authority.expect("an authority")), address }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A raw disk of this length that no compressor shortens.
    pub(crate) fn random_disk(&self, name: &str, seed: u64, length_bytes: u64) -> PathBuf {
        let (path, mut bytes) = (self.path(name), vec![0; length_bytes as usize]);
        Random::new(seed).fill(&mut bytes);
        fs::write(&path, bytes).expect("writes");
        path
    }

    /// A port of the test's own address.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// The authority of both sites.
    pub(crate) fn authority(&self) -> std::cell::RefMut<'_, Authority> {
        self.authority.borrow_mut()
    }

    /// Files of an identity, issued where there are none, as a daemon's `[tls]`.
    pub(crate) fn tls(&self, identity: &str) -> Value {
        let identity: PeerIdentity = identity.parse().expect("an identity");
        let mut authority = self.authority();
        if authority.overview().newest(&identity).is_none() {
            authority.issue(&Request::new(identity.clone(), Validity::days(1))).expect("a certificate");
        }
        let files: Bundle = authority.bundle(&identity);
        json!({"certificate": files.cert, "key": files.key, "ca": files.ca, "crl": files.crl})
    }

    /// Starts the master target on port 9443 with these machines. `options` are further keys of its configuration.
    pub(crate) fn master_target(&self, machines: &[Value], options: &Value) -> Daemon {
        self.master_target_on(machines, options, Host::default())
    }

    /// The same on another host.
    pub(crate) fn master_target_on(&self, machines: &[Value], options: &Value, host: Host) -> Daemon {
        let own = json!({
            "listen": self.at(9443), "admin": self.at(9444), "memory": "32M", "threads": 2,
            "tls": self.tls(MASTER_TARGET), "machine": machines,
        });
        Daemon::start("failback-master-target", &self.path("mt"), &merged(own, options), host)
    }

    /// Starts the process server that most tests have.
    pub(crate) fn process_server(&self, machines: &[Value], options: &Value) -> Daemon {
        self.process_server_as(PROCESS_SERVER, machines, options, Host::default())
    }

    /// Starts a process server of this identity.
    pub(crate) fn process_server_as(
        &self,
        identity: &str,
        machines: &[Value],
        options: &Value,
        host: Host,
    ) -> Daemon {
        let name = identity.rsplit('/').next().expect("an identity has a name");
        let own = json!({
            "admin": "off", "memory": "32M", "tls": self.tls(identity), "machine": machines,
        });
        Daemon::start("failback-process-server", &self.path(name), &merged(own, options), host)
    }

    /// A machine as the process server knows it, sent to the master target itself.
    pub(crate) fn source_machine(&self, id: &str, disks: &[Value]) -> Value {
        sent_to(id, self.at(9443), disks)
    }
}

/// A machine as the process server knows it.
pub(crate) fn sent_to(id: &str, target: SocketAddr, disks: &[Value]) -> Value {
    json!({"id": id, "target": target, "target_identity": MASTER_TARGET, "disk": disks})
}

/// A disk as the process server knows it.
pub(crate) fn source_disk(id: &str, source: &Path) -> Value {
    json!({"id": id, "source": source, "threads": 2})
}

/// A machine as the master target knows it, which the usual process server may write.
pub(crate) fn target_machine(id: &str, disks: &[Value]) -> Value {
    json!({"id": id, "allow": [PROCESS_SERVER], "disk": disks})
}

/// A disk that exists, as the master target knows it.
pub(crate) fn target_disk(id: &str, path: &Path) -> Value {
    json!({"id": id, "path": path})
}

/// A disk that is made, as the master target knows it.
pub(crate) fn new_disk(id: &str, path: &Path) -> Value {
    json!({"id": id, "path": path, "create": true})
}

/// Some keys and others; the others prevail.
pub(crate) fn merged(mut own: Value, others: &Value) -> Value {
    let keys = own.as_object_mut().expect("a table");
    keys.extend(others.as_object().expect("a table").clone());
    own
}
