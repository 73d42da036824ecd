//! `failback receipt`: what a master target proved, for those who were not there.

mod chain;
mod check;
mod compare;

use crate::control::{ask, unexpected};
use crate::receipt_args::{KeyArgs, ReceiptCommand, ShowReceiptArgs};
use crate::report::{Summary, Voice};
use failback_blockio::{DiskError, Operation};
use failback_format::receipt::{Receipt, SignedReceipt};
use failback_model::limits::RECEIPT_MAX_BYTES;
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use failback_pki::is_signed;
use failback_service::control::{Reply, Request};
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Runs one of the commands.
pub(crate) fn run(command: &ReceiptCommand, cancel: &Cancel) -> ExitClass {
    let voice = Voice { command: command.name(), json: command.json(), quiet: false };
    match command {
        ReceiptCommand::Check(args) => check::run(args, voice, cancel),
        ReceiptCommand::Show(args) => finish(voice, show(args)),
        ReceiptCommand::Key(args) => finish(voice, key(args)),
    }
}

fn finish(voice: Voice, done: Result<impl Summary, Vec<Finding>>) -> ExitClass {
    match done {
        Ok(summary) => voice.finish("done", &summary, &[]),
        Err(findings) => voice.fail(&findings),
    }
}

/// A receipt as a daemon gives it.
#[derive(Serialize)]
pub(crate) struct Shown {
    receipt_path: String,
    /// What it says, where it can be read.
    receipt: Option<Value>,
    /// The file, byte for byte.
    receipt_text: String,
}

impl Shown {
    /// A machine's receipt, the last one where no number is given.
    pub(crate) fn fetch(
        socket: &crate::control_args::SocketArgs,
        request: &Request,
    ) -> Result<Self, Vec<Finding>> {
        match ask(socket, request)? {
            Reply::Receipt { receipt } => {
                let said = SignedReceipt::decode(receipt.text.as_bytes()).ok();
                let said = said.and_then(|(_, said)| serde_json::to_value(said).ok());
                Ok(Self { receipt_path: receipt.path, receipt: said, receipt_text: receipt.text })
            }
            reply => Err(unexpected(&reply)),
        }
    }
}

impl Summary for Shown {
    fn text(&self) -> String {
        self.receipt_text.clone()
    }
}

fn show(args: &ShowReceiptArgs) -> Result<Shown, Vec<Finding>> {
    Shown::fetch(&args.socket, &Request::Receipt { machine: args.machine.clone(), number: args.number })
}

/// A key by its name.
#[derive(Serialize)]
struct Key {
    key_fingerprint: String,
}

impl Summary for Key {
    fn text(&self) -> String {
        format!("{}\n", self.key_fingerprint)
    }
}

fn key(args: &KeyArgs) -> Result<Key, Vec<Finding>> {
    match ask(&args.socket, &Request::Status { machine: None })? {
        Reply::Status { status } => match status.receipt_key {
            Some(key_fingerprint) => Ok(Key { key_fingerprint }),
            None => {
                let finding = Finding::error(Code::RequestInvalid, "this daemon signs no receipts");
                let remedy = "ask the master target: --socket /run/failback/master-target.sock";
                Err(vec![finding.with_remedy(remedy)])
            }
        },
        reply => Err(unexpected(&reply)),
    }
}

/// A receipt whose signature is that of the key it names, with its file's bytes.
struct Sound {
    file: Vec<u8>,
    signed: SignedReceipt,
    receipt: Receipt,
}

/// Reads a receipt; believes nothing of it that is not signed.
fn read(path: &Path) -> Result<Sound, Finding> {
    let file = read_file(path)?;
    let invalid = |reason: String| {
        Finding::error(Code::ReceiptInvalid, format!("{}: {reason}", path.display())).about(path)
    };
    let (signed, receipt) = SignedReceipt::decode(&file).map_err(|error| invalid(error.to_string()))?;
    match is_signed(&signed) {
        true => Ok(Sound { file, signed, receipt }),
        false => Err(invalid("its signature is not that of the key it names".into())),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Finding> {
    let failed = |operation, error| DiskError::io(operation, path, None, error).to_finding();
    let file = File::open(path).map_err(|error| failed(Operation::Open, error))?;
    let mut bytes = Vec::new();
    let read = file.take(RECEIPT_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(Operation::Read, error))?;
    Ok(bytes)
}
