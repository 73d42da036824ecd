//! Receipts of the machines, in files: `receipts/MACHINE/receipt-N.json` below the state folder, and beside them `head.json`,
//! which remembers the last one.
//!
//! **Invariant**: a receipt is durable before it is told, none is ever replaced, and each names the file before it; one
//! that was removed is missed by the next.

use failback_blockio::{create_folder, draft_of, publish};
use failback_format::receipt::{RECEIPT_VERSION, Receipt, ReceiptDisk, file_digest, parse_digest};
use failback_model::{Code, Digest, Finding, MachineId};
use failback_pki::ReceiptKey;
use failback_service::clock::unix_ms;
use failback_service::control::ReceiptFile;
use failback_service::saved::{self, failed};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// All machines' receipts, and the key that signs them.
pub struct Receipts {
    folder: PathBuf,
    key: ReceiptKey,
    product_version: &'static str,
    issuing: Mutex<()>,
}

/// A receipt that was signed.
pub struct Issued {
    /// Where it is.
    pub path: PathBuf,
    /// Its number.
    pub number: u64,
    /// What is wrong with those before it.
    pub findings: Vec<Finding>,
}

/// The last receipt of a machine.
#[derive(Serialize, Deserialize)]
struct Head {
    number: u64,
    digest: String,
}

impl Receipts {
    /// Receipts in this folder.
    pub fn new(folder: PathBuf, key: ReceiptKey, product_version: &'static str) -> Self {
        Self { folder, key, product_version, issuing: Mutex::default() }
    }

    /// Fingerprint of the key.
    pub fn key(&self) -> Digest {
        self.key.fingerprint()
    }

    /// Signs what was read of all disks of a machine, and at which recovery point they are.
    pub fn issue(
        &self,
        machine: &MachineId,
        point: Option<u64>,
        disks: Vec<ReceiptDisk>,
    ) -> Result<Issued, Finding> {
        let _one_at_a_time = self.issuing.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join(machine.as_str());
        create_folder(&folder).map_err(|error| failed("create", &folder, error))?;
        let (last, findings) = last_of(&folder)?;
        let number = last.as_ref().map_or(1, |(number, _)| number + 1);
        let receipt = Receipt {
            version: RECEIPT_VERSION,
            machine: machine.clone(),
            number,
            previous: last.map(|(_, digest)| digest),
            point,
            issued_unix_ms: unix_ms(),
            product_version: self.product_version.into(),
            disks,
        };
        let file = self.key.sign(&receipt)?.encode();
        let path = path_of(&folder, number);
        write_new(&path, file.as_bytes())?;
        let digest = file_digest(file.as_bytes()).to_string();
        saved::replace(&folder.join("head.json"), &Head { number, digest })?;
        Ok(Issued { path, number, findings })
    }

    /// A receipt of a machine, as its file has it; the last one where no number is given.
    pub fn find(&self, machine: &MachineId, number: Option<u64>) -> Result<ReceiptFile, Finding> {
        let folder = self.folder.join(machine.as_str());
        let number =
            number.map_or_else(|| numbers(&folder).map(|numbers| numbers.last().copied()), |n| Ok(Some(n)));
        let path = number?.map(|number| path_of(&folder, number));
        let text = path.as_deref().map(saved::read).transpose()?.flatten();
        let (Some(path), Some(text)) = (path, text) else {
            return Err(Finding::error(Code::ReceiptMissing, format!("{machine} has none of that number")));
        };
        let text = String::from_utf8(text).map_err(|error| {
            Finding::error(Code::ReceiptInvalid, format!("{}: {error}", path.display())).about(&path)
        })?;
        Ok(ReceiptFile { path: path.display().to_string(), text })
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("receipt-{number}.json"))
}

/// Numbers of the receipts that are there, in order.
fn numbers(folder: &Path) -> Result<Vec<u64>, Finding> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect()),
    };
    let names: Vec<std::ffi::OsString> = listed.map_err(|error| failed("list", folder, error))?;
    let number = |name: &std::ffi::OsString| {
        let number = name.to_str()?.strip_prefix("receipt-")?.strip_suffix(".json")?;
        number.parse().ok().filter(|n: &u64| n.to_string() == number)
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Number and digest of a receipt's file.
type Named = (u64, Digest);

/// The last receipt; what speaks against those that are there.
fn last_of(folder: &Path) -> Result<(Option<Named>, Vec<Finding>), Finding> {
    let numbers = numbers(folder)?;
    let head_path = folder.join("head.json");
    let head = saved::restore::<Head>(&head_path)?;
    let head = head.map(|head| {
        let digest = parse_digest(&head.digest);
        digest
            .map(|digest| (head.number, digest))
            .ok_or_else(|| failed("understand", &head_path, "no digest"))
    });
    let head = head.transpose()?;
    let there = numbers.last().copied();
    let read = there.map(|number| {
        let path = path_of(folder, number);
        saved::read(&path)?
            .map(|file| (number, file_digest(&file)))
            .ok_or_else(|| failed("find", &path, "it is gone"))
    });
    let read = read.transpose()?;
    let mut faults = Vec::new();
    let gap = numbers.iter().zip(1..).find(|(number, expected)| *number != expected);
    if let Some((_, missing)) = gap {
        faults.push(format!("receipt {missing} is not there"));
    }
    let last = match (read, head) {
        (Some(read), Some(head)) if read.0 < head.0 => {
            faults.push(format!("receipt {} was the last, and is not there", head.0));
            Some(head)
        }
        (Some(read), Some(head)) if read.0 == head.0 && read.1 != head.1 => {
            faults.push(format!("receipt {} is not as it was written", head.0));
            Some(head)
        }
        (None, Some(head)) => {
            faults.push(format!("receipts 1 to {} are not there", head.0));
            Some(head)
        }
        // A crash came between the receipt and its head, or there is none yet.
        (read, _) => read,
    };
    // What is missing does not forbid to prove what is there.
    let finding = |fault: String| {
        Finding::warning(Code::ReceiptChainBroken, format!("{}: {fault}", folder.display())).about(folder)
    };
    Ok((last, faults.into_iter().map(finding).collect()))
}

/// A new file, whole and durable under its name.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), Finding> {
    let draft = draft_of(path);
    saved::write(&draft, contents).map_err(|error| failed("write", &draft, error))?;
    publish(&draft, path).map_err(|error| failed("publish", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_format::receipt::{ReceiptRead, SignedReceipt};
    use failback_pki::is_signed;

    fn machine() -> MachineId {
        "web01".parse().expect("an id")
    }

    fn disk() -> ReceiptDisk {
        ReceiptDisk {
            id: "disk0".parse().expect("an id"),
            image: "/x.raw".into(),
            format: "raw".into(),
            image_bytes: 4096,
            length_bytes: 4096,
            block_size_bytes: 65_536,
            generation: 1,
            epoch: 1,
            root: Digest([1; 32]),
            bytes_read: 4096,
            read: ReceiptRead::Direct,
            started_unix_ms: 1,
            finished_unix_ms: 2,
        }
    }

    fn receipts(folder: &Path) -> Receipts {
        let key = ReceiptKey::open_or_make(&folder.join("receipt-key.pem")).expect("a key");
        Receipts::new(folder.join("receipts"), key, "0.1.0")
    }

    fn issue(receipts: &Receipts) -> (Receipt, Issued) {
        let issued = receipts.issue(&machine(), Some(3), vec![disk()]).expect("it is signed");
        let file = fs::read(&issued.path).expect("it is there");
        let (signed, receipt) = SignedReceipt::decode(&file).expect("it is sound");
        assert!(is_signed(&signed));
        assert_eq!(receipt.number, issued.number);
        (receipt, issued)
    }

    #[test]
    fn each_receipt_names_the_one_before_it_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, at) = issue(&receipts(folder.path()));
        assert_eq!((first.number, first.previous), (1, None));
        assert_eq!(at.path, folder.path().join("receipts/web01/receipt-1.json"));
        let before = file_digest(&fs::read(&at.path).expect("read"));
        let again = receipts(folder.path());
        let (second, at) = issue(&again);
        assert_eq!((second.number, second.previous, at.findings), (2, Some(before), Vec::new()));
        assert_eq!(again.find(&machine(), None).expect("it is found").path, at.path.display().to_string());
        assert_eq!(
            again.find(&machine(), Some(3)).map(|_| ()).expect_err("none yet").code,
            Code::ReceiptMissing
        );
    }

    #[test]
    fn a_crash_behind_the_receipt_breaks_no_chain() {
        let folder = tempfile::tempdir().expect("a folder");
        let receipts = receipts(folder.path());
        let (_, first) = issue(&receipts);
        fs::remove_file(folder.path().join("receipts/web01/head.json")).expect("removed");
        fs::write(draft_of(&folder.path().join("receipts/web01/receipt-2.json")), "torn").expect("written");
        let (second, at) = issue(&receipts);
        let before = file_digest(&fs::read(&first.path).expect("read"));
        assert_eq!((second.number, second.previous, at.findings), (2, Some(before), Vec::new()));
    }

    #[test]
    fn what_was_removed_or_changed_is_missed() {
        let folder = tempfile::tempdir().expect("a folder");
        let receipts = receipts(folder.path());
        let paths: Vec<_> = (0..3).map(|_| issue(&receipts).1.path).collect();
        let third = file_digest(&fs::read(&paths[2]).expect("read"));
        fs::remove_file(&paths[2]).expect("removed");
        let (fourth, at) = issue(&receipts);
        assert_eq!((fourth.number, fourth.previous), (4, Some(third)), "its number is not given again");
        let evidence: Vec<_> = at.findings.iter().map(|finding| finding.evidence.clone()).collect();
        assert!(evidence[0].ends_with("receipt 3 was the last, and is not there"), "{evidence:?}");
        fs::write(&at.path, "changed").expect("written");
        let (_, at) = issue(&receipts);
        let evidence: Vec<_> = at.findings.iter().map(|finding| finding.evidence.clone()).collect();
        assert!(evidence[0].ends_with("receipt 3 is not there"), "{evidence:?}");
        assert!(evidence[1].ends_with("receipt 4 is not as it was written"), "{evidence:?}");
        assert!(at.findings.iter().all(|finding| finding.code == Code::ReceiptChainBroken));
        fs::remove_dir_all(folder.path().join("receipts/web01")).expect("removed");
        assert_eq!(issue(&receipts).0.number, 1, "all memory of them is gone: only copies elsewhere tell");
    }
}
