//! How Azure's management is reached, for machines whose disks are managed.

use super::Machine;
use failback_remote::SourceSpec;
use failback_remote::arm::{AzureDisk, PUBLIC_ENDPOINT};
use failback_remote::entra::TokenSource;
use failback_service::config::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Azure's management.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azure {
    /// URL of the management; another one than the public cloud's for a national cloud.
    #[serde(default = "endpoint")]
    pub endpoint: String,
    /// File whose first line is a token for the management, kept fresh by somebody else. Either this or `token_command`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Command that prints a token, or the JSON of `az account get-access-token`: a program and its arguments, without a shell.
    #[serde(default)]
    pub token_command: Vec<String>,
    /// Certificates (PEM) that are trusted beside this host's own.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn endpoint() -> String {
    PUBLIC_ENDPOINT.into()
}

impl Azure {
    /// Where tokens come from; none: it does not say.
    pub(crate) fn token_source(&self) -> Option<TokenSource> {
        match (&self.token_file, self.token_command.is_empty()) {
            (Some(path), true) => Some(TokenSource::File(path.clone())),
            (None, false) => Some(TokenSource::Command(self.token_command.clone())),
            _ => None,
        }
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.token_source().is_none() {
            let reason = "tokens come from a file or from a command: it names both, or none";
            faults.push(Fault::new("token_file", reason, "name either token_file or token_command"));
        }
        if self.token_command.first().is_some_and(|program| !program.starts_with('/')) {
            let remedy = "name the program by its whole path; there is no shell";
            faults.push(Fault::new("token_command", "it begins with no absolute path", remedy));
        }
        if !["https://", "http://127.0.0.1:"].iter().any(|start| self.endpoint.starts_with(start)) {
            let reason = format!("{:?} would carry the token in the open", self.endpoint);
            faults.push(Fault::new("endpoint", reason, "name it as https://HOST"));
        }
        faults
    }
}

impl Machine {
    /// Whether its disks are managed disks.
    pub(crate) fn is_managed(&self) -> bool {
        self.disk.iter().any(|disk| managed(&disk.source).is_some())
    }
}

/// The managed disk that a source names.
pub(crate) fn managed(source: &str) -> Option<AzureDisk> {
    match SourceSpec::parse(source) {
        Ok(SourceSpec::Managed(disk)) => Some(disk),
        _ => None,
    }
}
