//! Configurations that load, and what is said of those that do not.

use super::*;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A daemon's configuration in small.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Small {
    /// Where state lies.
    state_dir: PathBuf,
    /// Bytes under way,
    /// over all disks.
    #[serde(default = "memory")]
    memory: ByteSize,
    /// How much is logged.
    #[serde(default)]
    log_level: LogLevel,
    /// Where the admin port listens: `IP:PORT` or `off`.
    #[serde(default = "admin", with = "crate::text")]
    #[schemars(with = "String")]
    admin: AdminAddress,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    tls: Option<TlsConfig>,
    /// A machine.
    #[serde(default)]
    machine: Vec<SmallMachine>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SmallMachine {
    /// Its id.
    id: String,
    /// Who may write a|b.
    #[serde(default)]
    allow: Vec<String>,
}

fn memory() -> ByteSize {
    ByteSize(192 << 20)
}

fn admin() -> AdminAddress {
    AdminAddress::On(([127, 0, 0, 1], 9444).into())
}

impl Config for Small {
    fn faults(&self) -> Vec<Fault> {
        let twice = |(index, machine): (usize, &SmallMachine)| {
            let is_named = self.machine[..index].iter().any(|other| other.id == machine.id);
            is_named.then(|| Fault::new(format!("machine.{index}.id"), "it is named twice", "rename one"))
        };
        let limits = self.limits.faults().into_iter().map(|fault| fault.within("limits"));
        limits.chain(self.machine.iter().enumerate().filter_map(twice)).collect()
    }
}

fn told(text: &str) -> Vec<String> {
    let findings = parse::<Small>(text, Path::new("d.toml")).map(|_| ()).expect_err("it has faults");
    findings.into_iter().map(|finding| format!("{} -> {}", finding.evidence, finding.remedy)).collect()
}

#[test]
fn a_configuration_loads_with_its_defaults() {
    let config: Small =
        parse("state_dir = '/s'\nmemory = '64M'\n", Path::new("d.toml")).expect("it is right");
    assert_eq!((config.memory, config.log_level), (ByteSize(64 << 20), LogLevel::Info));
    assert_eq!((config.admin, config.limits), (admin(), Limits::default()));
    let off: Small =
        parse("state_dir = '/s'\nmemory = 65536\nadmin = 'off'", Path::new("d")).expect("it is right");
    assert_eq!((off.memory, off.admin), (ByteSize(65536), AdminAddress::Off));
}

#[test]
fn every_fault_has_its_line_reason_and_remedy() {
    let all =
        "state_dir = '/s'\n[limits]\ndata_connections = 0\n[[machine]]\nid = 'a'\n[[machine]]\nid = 'a'\n";
    assert_eq!(
        told(all),
        [
            "d.toml:3:20: limits.data_connections: 0 is not possible -> choose a number from 1 to 32",
            "d.toml:7:6: machine.1.id: it is named twice -> rename one"
        ]
    );
    for (text, reason, remedy) in [
        ("state_dir = '/s'\nstate = 1", "d.toml:2:1: unknown field `state`", "correct the key's name"),
        ("state_dir = '/s'\nmemory = '1Q'", "d.toml:2:10: a size is a whole number", "correct"),
        ("state_dir = '/s'\nmemory = -1", "d.toml:2:10: a size is not negative", "correct"),
        ("state_dir = '/s'\nadmin = 'x'", "d.toml:2:9: \"x\" is neither IP:PORT nor off", "correct"),
        ("state_dir = '/s'\nlog_level = 'loud'", "d.toml:2:13: unknown variant `loud`", "correct the value"),
        ("memory = 1", "missing field `state_dir`", "add the key"),
        ("state_dir = '/s'\n\n[machine", "d.toml:3:", "correct"),
        ("state_dir = '/s'\nstate_dir = '/t'", "d.toml:2:1: duplicate key", "correct"),
    ] {
        let told = told(text);
        assert!(
            told.len() == 1 && told[0].contains(reason) && told[0].contains(remedy),
            "{text:?}: {told:?}"
        );
    }
}

#[test]
fn a_file_is_read_within_bounds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.toml");
    std::fs::write(&path, " ".repeat(CONFIG_MAX_BYTES as usize + 1)).expect("it can be written");
    let findings = load::<Small>(&path).map(|_| ()).expect_err("it is too long");
    assert!(findings[0].evidence.contains("longer than"), "{findings:?}");
    let findings = load::<Small>(&folder.path().join("absent")).map(|_| ()).expect_err("it is not there");
    assert_eq!(findings[0].code, Code::ConfigInvalid);
}

#[test]
fn the_reference_says_names_types_defaults_and_meanings() {
    let text = reference::<Small>();
    for line in [
        "### Top level\n\n| key | type | default | meaning |\n",
        "| `state_dir` | string | required | Where state lies. |\n",
        "| `memory` | size | `\"192M\"` | Bytes under way, over all disks. |\n",
        "| `log_level` | `error`, `warn`, `info`, `debug`, `trace` | `\"info\"` | How much is logged. |\n",
        "| `admin` | string | `\"127.0.0.1:9444\"` | Where the admin port listens",
        "### `[limits]`\n\nBounds against peers that ask for too much.\n\n",
        "### `[tls]`\n\nCertificates, all PEM.",
        "| `crl` | string | none | Revocation list",
        "### `[[machine]]`\n\nA machine.\n\n",
        "| `allow` | list of string | none | Who may write a\\|b. |\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn sizes_print_as_the_shortest_exact_text() {
    let shown = [0, 1, 1000, 1024, 192 << 20, 3 << 40].map(|bytes| ByteSize(bytes).to_string());
    assert_eq!(shown, ["0", "1", "1000", "1K", "192M", "3T"].map(String::from));
}

#[test]
fn systemd_credentials_are_filled_in() {
    let tls = TlsConfig {
        certificate: "/etc/failback/cert.pem".into(),
        key: "$CREDENTIALS_DIRECTORY/key.pem".into(),
        ca: "ca.pem".into(),
        crl: None,
    };
    assert_eq!(tls.resolved(Some(Path::new("/run/c"))).key, Path::new("/run/c/key.pem"));
    assert_eq!(tls.resolved(None), tls);
}

#[test]
fn devices_are_named_so_that_the_name_lasts() {
    for image in ["/dev/sdb", "dev:/dev/nvme0n1", "raw:/dev/vda", "/dev/dm-3"] {
        assert!(unstable_device("path", image).is_some(), "{image}");
    }
    for image in
        ["/dev/disk/by-id/wwn-0x5", "/dev/mapper/vg-lv", "/dev/loop3", "/sdb", "raw:/mnt/sdb.raw", "x"]
    {
        assert_eq!(unstable_device("path", image), None, "{image}");
    }
}
