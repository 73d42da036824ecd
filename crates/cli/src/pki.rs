//! `failback pki`: the certificate authority of an installation.

use crate::confirm::confirm;
use crate::pki_args::{InitArgs, IssueArgs, PkiCommand, RenewArgs, RevokeArgs, ShowArgs};
use crate::report::{Summary, Voice};
use crate::summary::table;
use failback_model::{ExitClass, Finding, PeerIdentity};
use failback_pki::{
    Authority, Bundle, CertificateRecord, Issued, Overview, PkiError, Request, Selection, Validity,
};
use jiff::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Runs one of the commands.
pub(crate) fn run(command: &PkiCommand) -> ExitClass {
    match command {
        PkiCommand::Init(args) => finish("pki init", args.output.json, init(args)),
        PkiCommand::Issue(args) => finish("pki issue", args.output.json, issue(args)),
        PkiCommand::Renew(args) => finish("pki renew", args.output.json, renew(args)),
        PkiCommand::Revoke(args) => finish("pki revoke", args.output.json, revoke(args)),
        PkiCommand::Show(args) => finish("pki show", args.output.json, show(args)),
    }
}

fn finish(command: &'static str, json: bool, done: Result<impl Summary, Finding>) -> ExitClass {
    let voice = Voice { command, json, quiet: false };
    match done {
        Ok(summary) => voice.finish("done", &summary, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}

/// The authority and certificates of it.
#[derive(Serialize)]
struct Listed {
    folder: PathBuf,
    authority: Named,
    certificates: Vec<Certificate>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    serial: String,
    not_after: String,
}

#[derive(Serialize)]
struct Certificate {
    identity: String,
    serial: String,
    state: &'static str,
    not_before: String,
    not_after: String,
    dns_names: Vec<String>,
    addresses: Vec<String>,
}

impl Certificate {
    fn of(record: &CertificateRecord) -> Self {
        Self {
            identity: record.identity.clone(),
            serial: record.serial.clone(),
            state: record.state(SystemTime::now()).as_str(),
            not_before: date(record.not_before),
            not_after: date(record.not_after),
            dns_names: record.dns_names.clone(),
            addresses: record.addresses.iter().map(ToString::to_string).collect(),
        }
    }

    fn row(&self) -> String {
        format!("{}, until {}, serial {}", self.state, self.not_after, self.serial)
    }
}

impl Listed {
    fn of(folder: &Path, overview: &Overview, certificates: &[CertificateRecord]) -> Self {
        let authority = &overview.authority;
        Self {
            folder: folder.into(),
            authority: Named {
                name: authority.name.clone(),
                serial: authority.serial.clone(),
                not_after: date(authority.not_after),
            },
            certificates: certificates.iter().map(Certificate::of).collect(),
        }
    }
}

impl Summary for Listed {
    fn text(&self) -> String {
        let headline = format!(
            "{} in {}, until {}",
            self.authority.name,
            self.folder.display(),
            self.authority.not_after
        );
        let rows: Vec<_> = self
            .certificates
            .iter()
            .map(|certificate| (certificate.identity.as_str(), certificate.row()))
            .collect();
        table(&headline, &rows)
    }
}

/// A new certificate and its files.
#[derive(Serialize)]
struct Made {
    certificate: Certificate,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    crl: PathBuf,
}

impl Made {
    fn of(record: &CertificateRecord, files: Bundle) -> Self {
        let certificate = Certificate::of(record);
        Self { certificate, cert: files.cert, key: files.key, ca: files.ca, crl: files.crl }
    }
}

impl Summary for Made {
    fn text(&self) -> String {
        let path = |path: &Path| path.display().to_string();
        table(
            &format!("{}: {}", self.certificate.identity, self.certificate.row()),
            &[
                ("certificate", path(&self.cert)),
                ("key", path(&self.key)),
                ("ca", path(&self.ca)),
                ("crl", path(&self.crl)),
            ],
        )
    }
}

fn init(args: &InitArgs) -> Result<Listed, Finding> {
    let folder = &args.folder.pki;
    let authority = Authority::init(folder, &args.name, Validity::days(args.days)).map_err(told)?;
    Ok(Listed::of(folder, authority.overview(), &[]))
}

fn issue(args: &IssueArgs) -> Result<Made, Finding> {
    let mut authority = Authority::open(&args.folder.pki).map_err(told)?;
    let request = Request {
        dns_names: args.dns.clone(),
        addresses: args.address.clone(),
        ..Request::new(args.identity.clone(), Validity::days(args.days))
    };
    let issued = authority.issue(&request).map_err(told)?;
    made(&authority, &args.identity, issued, args.export.as_deref())
}

fn renew(args: &RenewArgs) -> Result<Made, Finding> {
    let mut authority = Authority::open(&args.folder.pki).map_err(told)?;
    let issued = authority.renew(&args.identity, Validity::days(args.days)).map_err(told)?;
    made(&authority, &args.identity, issued, args.export.as_deref())
}

fn made(
    authority: &Authority,
    identity: &PeerIdentity,
    issued: Issued,
    export: Option<&Path>,
) -> Result<Made, Finding> {
    let files = match export {
        Some(folder) => authority.export(identity, folder).map_err(told)?,
        None => issued.files,
    };
    Ok(Made::of(&issued.record, files))
}

fn revoke(args: &RevokeArgs) -> Result<Listed, Finding> {
    let which = match (&args.identity, &args.serial) {
        (Some(identity), _) => Selection::Identity(identity.clone()),
        (None, serial) => Selection::Serial(serial.clone().unwrap_or_default()),
    };
    let named = match &which {
        Selection::Identity(identity) => format!("every certificate of {identity}"),
        Selection::Serial(serial) => format!("certificate {serial}"),
    };
    confirm(&format!("Revoke {named} for ever?"), args.yes)?;
    let mut authority = Authority::open(&args.folder.pki).map_err(told)?;
    let revoked = authority.revoke(&which).map_err(told)?;
    Ok(Listed::of(&args.folder.pki, authority.overview(), &revoked))
}

fn show(args: &ShowArgs) -> Result<Listed, Finding> {
    let overview = Overview::read(&args.folder.pki).map_err(told)?;
    Ok(Listed::of(&args.folder.pki, &overview, &overview.certificates))
}

fn told(error: PkiError) -> Finding {
    error.to_finding()
}

/// `2027-11-24T08:00:00Z`.
fn date(unix_seconds: u64) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| unix_seconds.to_string(), |time| time.to_string())
}
