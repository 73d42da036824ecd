//! The command line of `failback receipt`.

use crate::args::{OutputArgs, ProgressArgs};
use crate::control_args::SocketArgs;
use crate::values;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueHint};
use failback_format::receipt::parse_digest;
use failback_model::{Digest, DiskId, MachineId};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// Commands about receipts.
#[derive(Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Check a receipt and, given them, the images that it is about; no daemon is asked
    Check(CheckReceiptArgs),
    /// Print a machine's receipt as its file has it
    Show(ShowReceiptArgs),
    /// Print the fingerprint of the key that a master target signs with
    Key(KeyArgs),
}

impl ReceiptCommand {
    /// Its name as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Check(_) => "receipt check",
            Self::Show(_) => "receipt show",
            Self::Key(_) => "receipt key",
        }
    }

    /// Whether it was asked to speak JSON.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Check(args) => args.output.json,
            Self::Show(args) => args.output.json,
            Self::Key(args) => args.output.json,
        }
    }
}

/// An image that is said to be a disk of the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedImage {
    pub(crate) disk: DiskId,
    pub(crate) image: OsString,
}

/// `failback receipt check`.
#[derive(Args)]
#[command(after_help = "\
Without --key the signature only proves that whoever holds the key inside the receipt made it: get
the fingerprint from the master target ('failback receipt key') over another way, once, and pin it.

Examples:
  failback receipt check receipt-3.json --key 6b1f…
  failback receipt check receipt-3.json --key 6b1f… disk0=web01.vmdk disk1=/dev/sdc
  failback receipt check --chain --json receipts/web01/receipt-3.json")]
pub(crate) struct CheckReceiptArgs {
    /// Receipt
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Image or device that shall be this disk of the receipt: it is read and compared
    #[arg(value_name = "DISK=IMAGE", value_parser = OsStringValueParser::new().try_map(named_image))]
    pub(crate) images: Vec<NamedImage>,
    /// Fingerprint of the key that must have signed it: 64 hexadecimal digits
    #[arg(long, value_name = "FINGERPRINT", value_parser = key)]
    pub(crate) key: Option<Digest>,
    /// Also check all earlier receipts of the machine, which lie in FILE's folder
    #[arg(long)]
    pub(crate) chain: bool,
    /// Reader threads of each image, 1 to 64; the number of processors unless given
    #[arg(long, value_name = "N", value_parser = values::threads())]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
}

/// `failback receipt show`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback receipt show web01 --socket /run/failback/master-target.sock > web01-receipt.json
  failback receipt show web01 --number 3 --json --socket /run/failback/master-target.sock")]
pub(crate) struct ShowReceiptArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Number of the receipt; the last one unless given
    #[arg(long, value_name = "NUMBER")]
    pub(crate) number: Option<u64>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `failback receipt key`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  failback receipt key --socket /run/failback/master-target.sock")]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn named_image(text: OsString) -> Result<NamedImage, String> {
    let bytes = text.as_bytes();
    let wrong = || "an image is named as DISK=IMAGE, such as disk0=web01.vmdk".to_string();
    let at = bytes.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
    let disk = str::from_utf8(&bytes[..at]).map_err(|_| wrong())?;
    let disk = disk.parse().map_err(|error| format!("{error}"))?;
    match &bytes[at + 1..] {
        [] => Err(wrong()),
        image => Ok(NamedImage { disk, image: OsString::from_vec(image.to_vec()) }),
    }
}

/// Fingerprints are often copied with capitals or colons.
fn key(text: &str) -> Result<Digest, String> {
    let plain: String = text.chars().filter(|&c| c != ':').collect();
    parse_digest(&plain.to_ascii_lowercase())
        .ok_or_else(|| "a fingerprint has 64 hexadecimal digits; see 'failback receipt key'".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_a_disk_and_fingerprints_64_digits() {
        let named = |text: &str| named_image(text.into());
        let expected = NamedImage { disk: "disk0".parse().expect("an id"), image: "raw:a=b".into() };
        assert_eq!(named("disk0=raw:a=b"), Ok(expected));
        for text in ["", "disk0", "disk0=", "=x", "Disk=x", "a/b=x"] {
            assert!(named(text).is_err(), "{text}");
        }
        let digits = "0F".repeat(32);
        assert_eq!(key(&digits), Ok(Digest([15; 32])));
        let with_colons = vec!["0f"; 32].join(":");
        assert_eq!(key(&with_colons), Ok(Digest([15; 32])));
        for text in ["", "0f", &digits[1..], &"zz".repeat(32)] {
            assert!(key(text).is_err(), "{text}");
        }
    }
}
