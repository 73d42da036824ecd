//! Opening a source by what the user wrote.

use crate::ReadOnly;
use crate::arm::ManagedRead;
use crate::azure::{self, TokenSource};
use crate::nbd::{NbdDisk, NbdUri};
use crate::spec::{BlobAddress, SourceSpec};
use crate::waits::Waits;
use failback_image::{Access, Image};
use failback_model::{Code, Finding};
use std::path::PathBuf;
use std::sync::Arc;

/// How a source behind a network is read.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Connections, or requests under way, at most; each reader thread of a scan takes one.
    pub connections: usize,
    /// Command that makes the signature of a SAS URL anew: its standard output is the URL. Empty: there is none.
    pub renew: Vec<String>,
    /// Of a page blob: the snapshot to read (its time as Azure writes it); none: what the URL names.
    pub snapshot: Option<String>,
    /// Certificates (PEM) that are trusted beside this host's own.
    pub ca_file: Option<PathBuf>,
    /// Of a page blob: gives tokens where access does not go by signatures.
    pub token: Option<Arc<dyn TokenSource>>,
    /// Ends waits, and hears of them.
    pub waits: Waits,
    /// Of a managed disk: the state to read.
    pub managed: Option<Arc<ManagedRead>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let (renew, waits) = (Vec::new(), Waits::default());
        Self { connections: 4, renew, snapshot: None, ca_file: None, token: None, waits, managed: None }
    }
}

/// Opens a source to be read.
pub fn open(spec: &SourceSpec, options: &OpenOptions) -> Result<Arc<dyn Image>, Finding> {
    match spec {
        SourceSpec::Local(spec) => {
            failback_image::open(spec, Access::Read).map_err(|error| error.to_finding())
        }
        SourceSpec::Nbd(uri) => {
            let disk = NbdDisk::open(&NbdUri::parse(uri)?, options.connections);
            disk.map(|disk| Arc::new(ReadOnly(disk)) as _).map_err(|error| error.to_finding())
        }
        SourceSpec::Managed(disk) if options.managed.is_some() => {
            azure::open(&BlobAddress::Url(format!("azdisk:{disk}")), options)
        }
        SourceSpec::Managed(disk) => {
            let evidence = format!("{disk} is a managed disk, which changes while it is read");
            Err(Finding::error(Code::SourceUnsupported, evidence)
                .with_remedy("name it as a disk's source of a process server, whose cycles take snapshots of it; or grant access to a snapshot and read that as azblob:@FILE"))
        }
        SourceSpec::Blob(address) => azure::open(address, options),
    }
}
