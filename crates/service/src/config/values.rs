//! Values and tables that both daemons' configurations share.

use super::Fault;
use crate::size;
use failback_model::limits::{CONNECTIONS_MAX, DATA_CONNECTIONS_MAX};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A number of bytes, written as a number or as text: `65536`, `"64K"`, `"192M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    /// The shortest exact text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let fits = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.into_iter().find(|&(shift, _)| fits(shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl Visitor<'_> for Sizes {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64K\" or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                size::parse(text).map(ByteSize).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }
        }

        deserializer.deserialize_any(Sizes)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size" })
    }
}

/// Where the admin port listens, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAddress {
    /// Listens there.
    On(SocketAddr),
    /// Does not listen.
    Off,
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::On).map_err(|_| format!("{text:?} is neither IP:PORT nor off"))
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may fail.
    Warn,
    /// Also what was done.
    #[default]
    Info,
    /// Also how.
    Debug,
    /// Everything.
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people; under systemd without time and with the journal's priorities.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Certificates, all PEM. Read again on SIGHUP and by `reload`; a file that cannot be used keeps what was loaded before.
/// A path that begins with `$CREDENTIALS_DIRECTORY/` lies where systemd's LoadCredential put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// This daemon's certificate, followed by its intermediates if there are any.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Certificates of the authorities that the peer's certificate must come from.
    pub ca: PathBuf,
    /// Revocation list: certificates on it are refused.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

/// A path with systemd's folder filled in where it begins with `$CREDENTIALS_DIRECTORY`.
pub fn resolved(path: &Path, credentials: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("$CREDENTIALS_DIRECTORY"), credentials) {
        (Ok(rest), Some(folder)) => folder.join(rest),
        _ => path.into(),
    }
}

impl TlsConfig {
    /// The same with systemd's folder filled in; `credentials` is the value of CREDENTIALS_DIRECTORY.
    pub fn resolved(&self, credentials: Option<&Path>) -> Self {
        let resolve = |path: &PathBuf| resolved(path, credentials);
        Self {
            certificate: resolve(&self.certificate),
            key: resolve(&self.key),
            ca: resolve(&self.ca),
            crl: self.crl.as_ref().map(resolve),
        }
    }
}

/// Bounds against peers that ask for too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of all peers at once, control and data.
    pub connections: usize,
    /// Data connections of one session; who asks for more gets these.
    pub data_connections: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, data_connections: DATA_CONNECTIONS_MAX as u16 }
    }
}

impl Limits {
    /// What is wrong with them.
    pub fn faults(&self) -> Vec<Fault> {
        let range = |key: &str, value: usize, most: usize| {
            let remedy = format!("choose a number from 1 to {most}");
            (!(1..=most).contains(&value))
                .then(|| Fault::new(key, format!("{value} is not possible"), remedy))
        };
        let connections = range("connections", self.connections, CONNECTIONS_MAX);
        let data = range("data_connections", self.data_connections.into(), DATA_CONNECTIONS_MAX);
        connections.into_iter().chain(data).collect()
    }
}

/// Refuses names of devices that the kernel gives out in the order in which it finds them: after a restart they may
/// mean another disk.
pub fn unstable_device(key: &str, image: &str) -> Option<Fault> {
    const UNSTABLE: [&str; 6] = ["sd", "vd", "xvd", "hd", "nvme", "dm-"];
    let path =
        image.split_once(':').map_or(image, |(_, path)| if path.starts_with('/') { path } else { image });
    let name = path.strip_prefix("/dev/")?;
    UNSTABLE.iter().any(|prefix| name.starts_with(prefix)).then(|| {
        let reason = format!("{path} may be another disk after a restart");
        Fault::new(key, reason, "name it by /dev/disk/by-id/, which 'ls -l /dev/disk/by-id' shows")
    })
}
