//! The command line of `failback pki`.

use crate::args::OutputArgs;
use clap::{Args, Subcommand, ValueHint};
use failback_model::PeerIdentity;
use failback_model::limits::{AUTHORITY_VALIDITY_DEFAULT_DAYS, CERTIFICATE_VALIDITY_DEFAULT_DAYS};
use std::net::IpAddr;
use std::path::PathBuf;

/// Commands about certificates.
#[derive(Subcommand)]
pub(crate) enum PkiCommand {
    /// Make a certificate authority
    Init(InitArgs),
    /// Issue the certificate of a daemon or a person
    Issue(IssueArgs),
    /// Issue the next certificate of an identity; the one before stays valid
    Renew(RenewArgs),
    /// Revoke an identity's certificates, and write the revocation list
    Revoke(RevokeArgs),
    /// Show the authority and what it issued
    Show(ShowArgs),
}

impl PkiCommand {
    /// Whether it was asked to speak JSON.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Init(args) => args.output.json,
            Self::Issue(args) => args.output.json,
            Self::Renew(args) => args.output.json,
            Self::Revoke(args) => args.output.json,
            Self::Show(args) => args.output.json,
        }
    }
}

/// Where the authority is.
#[derive(Args)]
#[command(next_help_heading = "Authority")]
pub(crate) struct FolderArgs {
    /// Folder of the authority
    #[arg(long, value_name = "DIR", env = "FAILBACK_PKI", hide_env_values = true)]
    #[arg(default_value = "/etc/failback/pki", value_hint = ValueHint::DirPath)]
    pub(crate) pki: PathBuf,
}

/// `failback pki init`.
#[derive(Args)]
#[command(after_help = "\
Whoever can read the authority's ca-key.pem can be anyone: keep the folder on a machine that is no
daemon's, and back it up.

Examples:
  failback pki init
  failback pki init --pki ./pki --name 'Site 1 failback'")]
pub(crate) struct InitArgs {
    /// Name of the authority in its certificate
    #[arg(long, value_name = "NAME", default_value = "failback")]
    pub(crate) name: String,
    /// Days that it is valid
    #[arg(long, value_name = "DAYS", default_value_t = AUTHORITY_VALIDITY_DEFAULT_DAYS)]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback pki issue`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback pki issue failback://master-target/site-1
  failback pki issue failback://process-server/azure-1 --days 90 --export ./azure-1-tls")]
pub(crate) struct IssueArgs {
    /// Whose: failback://process-server/NAME, failback://master-target/NAME or failback://operator/NAME
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: PeerIdentity,
    /// DNS name that it also proves; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) dns: Vec<String>,
    /// Address that it also proves; may be repeated
    #[arg(long, value_name = "IP")]
    pub(crate) address: Vec<IpAddr>,
    /// Days that it is valid
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_VALIDITY_DEFAULT_DAYS)]
    pub(crate) days: u32,
    /// Also copy cert.pem, key.pem, ca.pem and crl.pem into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) export: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback pki renew`.
#[derive(Args)]
#[command(after_help = "\
Bring the new files to the daemon and reload it (systemctl reload): no session is lost.

Examples:
  failback pki renew failback://process-server/azure-1 --export ./azure-1-tls")]
pub(crate) struct RenewArgs {
    /// Whose
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: PeerIdentity,
    /// Days that it is valid
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_VALIDITY_DEFAULT_DAYS)]
    pub(crate) days: u32,
    /// Also copy cert.pem, key.pem, ca.pem and crl.pem into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) export: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback pki revoke`.
#[derive(Args)]
#[command(after_help = "\
A revocation takes effect where its list is: bring crl.pem to every daemon and reload it
(systemctl reload); sessions of the revoked are cut then.

Examples:
  failback pki revoke failback://process-server/azure-1
  failback pki revoke --serial 1f3a --yes")]
#[command(group = clap::ArgGroup::new("which").required(true).args(["identity", "serial"]))]
pub(crate) struct RevokeArgs {
    /// Whose: all of them
    #[arg(value_name = "IDENTITY")]
    pub(crate) identity: Option<PeerIdentity>,
    /// Only the certificate of this serial number, hexadecimal
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: Option<String>,
    /// Do not ask: a revocation is never taken back
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback pki show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback pki show
  failback pki show --json --pki ./pki")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) folder: FolderArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
