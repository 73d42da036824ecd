//! The daemon: site, certificates and listener, opened from a configuration and read again on request.

use crate::config::Config;
use crate::limit::Limit;
use crate::reception::Reception;
use crate::site::{Site, SiteOptions};
use failback_model::{Finding, MachineId, PeerIdentity};
use failback_pass::PassOptions;
use failback_pki::ReceiptKey;
use failback_service::clock::ms_of;
use failback_service::config::{self, AtStart};
use failback_service::daemon::{Daemon, Kit};
use failback_service::event::Event;
use failback_service::registry::Registry;
use failback_service::report::finding_lines;
use failback_service::status::CertificateStatus;
use failback_transport::{
    Host, LinkAcceptor, ListenOptions, ListenStats, Listener, Refusal, SocketOptions, Tls, TlsFiles,
};
use failback_wire::{Open, Welcome};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The master target.
pub struct MasterTarget {
    pub(crate) site: Site,
    reception: Reception<Site>,
    runtime: Handle,
    pub(crate) limit: Limit,
    listener: Arc<Listener>,
    tls: Tls,
    at_start: AtStart,
}

impl MasterTarget {
    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Finding> {
        self.listener.local_address().map_err(|error| error.to_finding())
    }

    /// Its sessions.
    pub(crate) fn reception(&self) -> Reception<Site> {
        self.reception.clone()
    }

    /// Where its sessions run.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// What its listener has seen.
    pub(crate) fn listened(&self) -> ListenStats {
        self.listener.stats()
    }

    /// This daemon's own certificate.
    pub(crate) fn certificate(&self) -> CertificateStatus {
        let (identity, expires_at) = (self.tls.identity().to_string(), self.tls.expires_at());
        self.site.kit().certificate(identity, ms_of(expires_at))
    }

    /// Asks a machine's sessions to end at their next durable group; how many there are.
    pub(crate) fn stop_sessions(&self, machine: &MachineId) -> usize {
        let disks = self.site.registry().leases(machine);
        for disk in &disks {
            let (reception, machine, disk) = (self.reception.clone(), machine.clone(), disk.clone());
            self.runtime.spawn(async move { reception.stop(&machine, &disk).await });
        }
        disks.len()
    }

    /// Reads certificates and configuration again; errors where the old ones stay in force.
    pub(crate) fn read_again(&self) -> Vec<Finding> {
        let certificates = self.tls.reload().err().map(|error| error.to_finding());
        let kit = self.site.kit();
        kit.certificates_read(ms_of(self.tls.expires_at()), certificates.as_ref());
        let machines = config::load::<Config>(&kit.config_path).and_then(|config| {
            let waiting = self.at_start.waiting(&config);
            self.limit.configure(config.bandwidth);
            let findings = self.site.registry().reload(config.machine).map_err(|finding| vec![finding])?;
            Ok(waiting.into_iter().chain(findings).collect())
        });
        let findings = machines.unwrap_or_else(|findings| findings);
        kit.events.publish(Event::ConfigReloaded { findings: finding_lines(&findings) });
        self.site.settle();
        certificates.into_iter().chain(findings).collect()
    }
}

impl Daemon for MasterTarget {
    const NAME: &'static str = "master-target";
    const CONFIG: &'static str = "/etc/failback/master-target.toml";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = Config;

    async fn open(config: Config, kit: Kit) -> Result<Arc<Self>, Vec<Finding>> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let files = config.tls.resolved(credentials.as_deref());
        let files = TlsFiles { cert: files.certificate, key: files.key, ca: files.ca, crl: files.crl };
        let tls = Tls::load(&files).map_err(|error| vec![error.to_finding()])?;
        let at_start = AtStart::new(&config, &["machine", "bandwidth"]);
        let registry = Registry::open(config.machine, kit.state.join("registry.json"));
        let (registry, findings) = registry.map_err(|finding| vec![finding])?;
        if !findings.is_empty() {
            kit.events.publish(Event::ConfigReloaded { findings: finding_lines(&findings) });
        }
        let limit = Limit::new(config.bandwidth);
        let options = ListenOptions {
            connections_max: config.limits.connections,
            data_connections_max: config.limits.data_connections,
            socket: SocketOptions { congestion: config.congestion, ..SocketOptions::default() },
            throttle: limit.throttle(),
        };
        let listener = Listener::bind(config.listen, tls.clone(), options);
        let listener = Arc::new(listener.map_err(|error| vec![error.to_finding()])?);
        let threads = config.threads.unwrap_or(PassOptions::default().threads);
        let receipt_key = match &config.receipt_key {
            Some(path) => ReceiptKey::open(&config::resolved(path, credentials.as_deref())),
            None => ReceiptKey::open_or_make(&kit.state.join("receipt-key.pem")),
        };
        let receipt_key = receipt_key.map_err(|error| vec![error.to_finding()])?;
        let options = SiteOptions { threads, journal_dir: config.journal_dir, retention: config.retention };
        let site = Site::new(kit.clone(), registry, receipt_key, options).map_err(|finding| vec![finding])?;
        site.settle();
        site.recover();
        let reception = Reception::new(site.clone(), config.limits.data_connections, threads);
        let (listening, door) = (Arc::clone(&listener), Door(reception.clone()));
        tokio::spawn(async move {
            tokio::select! {
                () = kit.stop.cancelled() => {}
                () = listening.run(Arc::new(door)) => {}
            }
        });
        let runtime = Handle::current();
        Ok(Arc::new(Self { site, reception, runtime, limit, listener, tls, at_start }))
    }

    fn reload(&self) {
        self.read_again();
    }

    async fn drained(&self) {
        self.reception.drain().await;
    }
}

/// Lets peers in, and tells who was sent away.
struct Door(Reception<Site>);

impl Host for Door {
    async fn open(
        &self,
        peer: PeerIdentity,
        from: SocketAddr,
        open: Open,
    ) -> Result<(Welcome, LinkAcceptor), Refusal> {
        let machine = open.machine.clone();
        let answer = self.0.open(peer.clone(), from, open).await;
        if let Err(refusal) = &answer {
            self.0.registry().close_failed(&machine, refusal.code);
            self.0.registry().refused(&peer, from, &Finding::error(refusal.code, refusal.message.clone()));
        }
        answer
    }
}
