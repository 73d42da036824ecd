//! The daemon: registry, certificates and supervisor, opened from a configuration and read again on request.

use crate::config::{Config, Machine};
use crate::managed::Managed;
use crate::runner::{Network, Runner};
use crate::supervisor::Supervisor;
use failback_model::Finding;
use failback_service::clock::ms_of;
use failback_service::config::{self, AtStart};
use failback_service::daemon::{Daemon, Kit};
use failback_service::event::Event;
use failback_service::registry::Registry;
use failback_service::report::finding_lines;
use failback_service::status::CertificateStatus;
use failback_transport::{Tls, TlsFiles};
use std::path::PathBuf;
use std::sync::Arc;

/// The process server.
pub struct ProcessServer {
    pub(crate) kit: Kit,
    pub(crate) registry: Registry<Machine>,
    pub(crate) supervisor: Supervisor,
    pub(crate) managed: Managed,
    tls: Tls,
    at_start: AtStart,
}

impl ProcessServer {
    /// Opens it with whatever carries its passes; goes on with the machines that replicated before.
    pub fn with_runner(config: Config, kit: Kit, runner: Arc<dyn Runner>) -> Result<Arc<Self>, Vec<Finding>> {
        let files =
            config.tls.resolved(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).as_deref());
        let files = TlsFiles { cert: files.certificate, key: files.key, ca: files.ca, crl: files.crl };
        let tls = Tls::load(&files).map_err(|error| vec![error.to_finding()])?;
        let at_start = AtStart::new(&config, &["machine"]);
        let registry = Registry::open(config.machine, kit.state.join("registry.json"));
        let (registry, findings) = registry.map_err(|finding| vec![finding])?;
        if !findings.is_empty() {
            kit.events.publish(Event::ConfigReloaded { findings: finding_lines(&findings) });
        }
        let managed = Managed::new(config.azure, kit.state.join("azure"), kit.stop.clone());
        let supervisor = Supervisor::new(kit.clone(), registry.clone(), runner, tls.clone(), managed.clone())
            .map_err(|finding| vec![finding])?;
        supervisor.settle();
        Ok(Arc::new(Self { kit, registry, supervisor, managed, tls, at_start }))
    }

    /// This daemon's own certificate.
    pub(crate) fn certificate(&self) -> CertificateStatus {
        self.kit.certificate(self.tls.identity().to_string(), ms_of(self.tls.expires_at()))
    }

    /// Reads certificates and configuration again; errors where the old ones stay in force.
    pub(crate) fn read_again(&self) -> Vec<Finding> {
        let certificates = self.tls.reload().err().map(|error| error.to_finding());
        self.kit.certificates_read(ms_of(self.tls.expires_at()), certificates.as_ref());
        let machines = config::load::<Config>(&self.kit.config_path).and_then(|config| {
            let waiting = self.at_start.waiting(&config);
            let findings = self.registry.reload(config.machine).map_err(|finding| vec![finding])?;
            Ok(waiting.into_iter().chain(findings).collect())
        });
        let findings = machines.unwrap_or_else(|findings| findings);
        self.kit.events.publish(Event::ConfigReloaded { findings: finding_lines(&findings) });
        self.settle();
        certificates.into_iter().chain(findings).collect()
    }

    /// Follows a change of the registry.
    pub(crate) fn settle(&self) {
        let registry = &self.registry;
        self.kit.board.retain(|machine, disk| registry.disk(machine, disk).is_ok());
        self.supervisor.settle();
    }
}

impl Daemon for ProcessServer {
    const NAME: &'static str = "process-server";
    const CONFIG: &'static str = "/etc/failback/process-server.toml";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Config = Config;

    async fn open(config: Config, kit: Kit) -> Result<Arc<Self>, Vec<Finding>> {
        Self::with_runner(config, kit, Arc::new(Network))
    }

    fn reload(&self) {
        self.read_again();
    }

    async fn drained(&self) {
        self.supervisor.drained().await;
    }
}
