//! A machine and its disks as the process server knows them.

use crate::template::Template;
use failback_model::limits::{
    DATA_CONNECTIONS_DEFAULT, DATA_CONNECTIONS_MAX, FINAL_TIMEOUT_DEFAULT, HOOK_ARGUMENTS_MAX,
    HOOK_TIMEOUT_DEFAULT, HOOK_TIMEOUT_MAX, THREADS_MAX,
};
use failback_model::{BlockSize, DiskId, MachineId, PeerIdentity};
use failback_pass::{Compression, PassOptions};
use failback_remote::{FeedSpec, SourceSpec};
use failback_service::config::{ByteSize, Fault, unstable_device};
use failback_service::period::Period;
use failback_service::registry::{DiskEntry, MachineEntry};
use failback_service::text;
use failback_transport::{Schedule, SocketOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A machine whose disks come home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its id, the same as at the master target: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub id: MachineId,
    /// Master target: `HOST:PORT`.
    pub target: String,
    /// Name that the master target's certificate must prove, such as `failback://master-target/site-1`.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub target_identity: PeerIdentity,
    /// Data connections of each disk's session, 1 to 32: more fill a long or lossy link better.
    #[serde(default = "data_connections")]
    pub data_connections: u16,
    /// Bytes a second for all disks of the machine together: a rate such as `20M`, or a schedule such as
    /// `08:00-18:00=5M,18:00-08:00=100M`, by this host's local time; `unlimited`: as fast as it goes.
    #[serde(default = "Schedule::unlimited", with = "text")]
    #[schemars(with = "String")]
    pub bandwidth: Schedule,
    /// TCP congestion control, such as `bbr`; none: the system's own.
    #[serde(default)]
    pub congestion: Option<String>,
    /// Speed of the link in bytes a second, to size socket buffers by, with `round_trip_ms`; none: the kernel sizes them.
    #[serde(default)]
    pub link_rate: Option<ByteSize>,
    /// Round trip of the link in milliseconds, to size socket buffers by, with `link_rate`.
    #[serde(default)]
    pub round_trip_ms: Option<u32>,
    /// Command that quiesces the machine's applications: a program and its arguments, without a shell. Hooks run once in a
    /// job, before any disk of it is opened, with FAILBACK_MACHINE and FAILBACK_JOB set; only this file defines them.
    #[serde(default)]
    pub before_snapshot: Vec<String>,
    /// Command that makes the disks' sources; the state that the job brings is of the moment at which it is started.
    #[serde(default)]
    pub snapshot: Vec<String>,
    /// Command that lets the applications go on; it also runs where the hooks before it failed.
    #[serde(default)]
    pub after_snapshot: Vec<String>,
    /// Time from the beginning of a cycle to the next, such as `5m`; none: cycles run only when they are asked for.
    #[serde(default)]
    pub cycle_every: Option<Period>,
    /// Command that runs once all disks are sealed in a cycle: it gives up the snapshots of the cycles in FAILBACK_RETIRE, which
    /// nothing needs any more. Until then a snapshot and what tracks its changes must stay.
    #[serde(default)]
    pub after_seal: Vec<String>,
    /// Command that stops the source for the final cycle, and ends with success only once it is proven to be off.
    #[serde(default)]
    pub stop_source: Vec<String>,
    /// Command that starts the source again where the final cycle was not made.
    #[serde(default)]
    pub start_source: Vec<String>,
    /// How long a final cycle may take before the source is started again.
    #[serde(default = "final_timeout")]
    pub final_timeout: Period,
    /// Seconds that each hook has, 1 to 3600; then it is killed with all that it started.
    #[serde(default = "hook_timeout")]
    pub hook_timeout: u32,
    /// `snapshot` takes all disks of the machine at one instant; without it, disks of several sources are not even
    /// crash-consistent together.
    #[serde(default)]
    pub snapshot_is_atomic: bool,
    /// A disk of the machine.
    #[serde(default)]
    pub disk: Vec<Disk>,
}

/// A disk to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its id, the same as at the master target.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub id: DiskId,
    /// Image or device to read, as `failback sync` takes it: `/snapshots/web01.vhd`, `/dev/disk/by-id/...`, `raw:/x`,
    /// `nbd://HOST/EXPORT`, `azblob:@/etc/failback/disk0.sas`,
    /// `azdisk:/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/NAME`. `{cycle}` stands for the number of the cycle, `{base}` for that of
    /// the last cycle that the target sealed.
    pub source: String,
    /// What names the changes since the last cycle that the target sealed: `bitmap:NAME` of an NBD export, `extents:PATH` of a
    /// JSON list, `diff:SNAPSHOT` of a page blob; `{cycle}` and `{base}` as above. None: the source is scanned.
    #[serde(default)]
    pub feed: Option<String>,
    /// Take a snapshot of the page blob for each cycle, read that, and ask Azure what changed since the one before; the blob's
    /// signature must allow to create and delete snapshots.
    #[serde(default)]
    pub take_snapshots: bool,
    /// Command that prints a new URL of a page blob on its standard output, for when its signature has expired.
    #[serde(default)]
    pub renew: Vec<String>,
    /// Unit of comparison: a power of two from 16K to 1M.
    #[serde(default = "block_size")]
    pub block_size: ByteSize,
    /// Compression of what ships: `auto` (by the link), `off`, or a zstd level from 1 to 22.
    #[serde(default, with = "text")]
    #[schemars(with = "String")]
    pub compression: CompressionWord,
    /// Reader threads, 1 to 64; none: the number of processors.
    #[serde(default)]
    pub threads: Option<usize>,
}

fn data_connections() -> u16 {
    DATA_CONNECTIONS_DEFAULT as u16
}

fn hook_timeout() -> u32 {
    HOOK_TIMEOUT_DEFAULT.as_secs() as u32
}

fn final_timeout() -> Period {
    Period(FINAL_TIMEOUT_DEFAULT)
}

fn block_size() -> ByteSize {
    ByteSize(BlockSize::DEFAULT.bytes())
}

impl Machine {
    /// The commands that it runs, by their keys, to see whether two definitions run the same.
    pub fn commands(&self) -> Vec<(&'static str, &[String])> {
        let hooks: [(_, &[String]); 6] = [
            ("before_snapshot", &self.before_snapshot),
            ("snapshot", &self.snapshot),
            ("after_snapshot", &self.after_snapshot),
            ("after_seal", &self.after_seal),
            ("stop_source", &self.stop_source),
            ("start_source", &self.start_source),
        ];
        let renew = self.disk.iter().map(|disk| ("renew", &*disk.renew));
        hooks.into_iter().chain(renew).collect()
    }

    /// Faults of its hooks.
    fn hook_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, command) in self.commands() {
            let Some(program) = command.first() else { continue };
            if !program.starts_with('/') {
                let reason = format!("{program:?} is no absolute path");
                faults.push(Fault::new(key, reason, "name the program by its whole path; there is no shell"));
            }
            if command.len() > HOOK_ARGUMENTS_MAX || command.iter().any(|part| part.contains('\0')) {
                let remedy = format!("at most {HOOK_ARGUMENTS_MAX} parts; put what is longer into a script");
                faults.push(Fault::new(key, "it is no command", remedy));
            }
        }
        let needs_snapshot = [
            ("before_snapshot", !self.before_snapshot.is_empty()),
            ("after_snapshot", !self.after_snapshot.is_empty()),
            ("snapshot_is_atomic", self.snapshot_is_atomic),
        ];
        if self.snapshot.is_empty() {
            // The states of managed disks are taken by the daemon itself, between the hooks.
            let is_about = |key: &str| self.is_managed() && key != "snapshot_is_atomic";
            let without = needs_snapshot.into_iter().filter(|(key, is_given)| *is_given && !is_about(key));
            faults.extend(without.map(|(key, _)| {
                let remedy = "name the command that makes the sources as 'snapshot'";
                Fault::new(key, "there is no 'snapshot' that it could be about", remedy)
            }));
        }
        if self.cycle_every.is_some_and(|every| every.0.is_zero()) {
            faults.push(Fault::new("cycle_every", "0s is not possible", "choose a time such as 5m"));
        }
        if !(1..=HOOK_TIMEOUT_MAX.as_secs()).contains(&self.hook_timeout.into()) {
            let remedy = format!("choose seconds from 1 to {}", HOOK_TIMEOUT_MAX.as_secs());
            faults.push(Fault::new("hook_timeout", format!("{} is not possible", self.hook_timeout), remedy));
        }
        faults
    }

    /// Options of its connections' sockets.
    pub fn socket_options(&self) -> SocketOptions {
        let options = SocketOptions { congestion: self.congestion.clone(), ..SocketOptions::default() };
        match (self.link_rate, self.round_trip_ms) {
            (Some(rate), Some(ms)) => {
                let connections = usize::from(self.data_connections);
                options.for_link(rate.0, Duration::from_millis(ms.into()), connections)
            }
            _ => options,
        }
    }
}

impl MachineEntry for Machine {
    type Disk = Disk;

    fn id(&self) -> &MachineId {
        &self.id
    }

    fn disks(&self) -> &[Disk] {
        &self.disk
    }

    fn disks_mut(&mut self) -> &mut Vec<Disk> {
        &mut self.disk
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let address = self.target.rsplit_once(':');
        if !address
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            let reason = format!("{:?} is no HOST:PORT", self.target);
            faults.push(Fault::new("target", reason, "name host and port, such as mt.example:9443"));
        }
        if !(1..=DATA_CONNECTIONS_MAX).contains(&self.data_connections.into()) {
            let remedy = format!("choose a number from 1 to {DATA_CONNECTIONS_MAX}");
            faults.push(Fault::new(
                "data_connections",
                format!("{} is not possible", self.data_connections),
                remedy,
            ));
        }
        if self.link_rate.is_some() != self.round_trip_ms.is_some() {
            let reason = "socket buffers need link_rate and round_trip_ms both";
            let key = if self.link_rate.is_some() { "link_rate" } else { "round_trip_ms" };
            faults.push(Fault::new(key, reason, "give both, or none"));
        }
        faults.extend(self.hook_faults());
        if self.is_managed() && self.disk.iter().any(|disk| super::managed(&disk.source).is_none()) {
            let reason = "some of its disks are managed disks and some are not";
            faults.push(Fault::new(
                "disk",
                reason,
                "make two machines of them: their states are of two instants",
            ));
        }
        for (at, disk) in self.disk.iter().enumerate() {
            faults.extend(disk.faults().into_iter().map(|fault| fault.within(&format!("disk.{at}"))));
        }
        faults
    }
}

impl Disk {
    fn faults(&self) -> Vec<Fault> {
        let block_size = BlockSize::new(self.block_size.0)
            .err()
            .map(|error| Fault::new("block_size", error.to_string(), "choose a power of two from 16K to 1M"));
        let threads = self.threads.filter(|threads| !(1..=THREADS_MAX).contains(threads)).map(|threads| {
            let remedy = format!("choose a number from 1 to {THREADS_MAX}");
            Fault::new("threads", format!("{threads} is not possible"), remedy)
        });
        let source =
            self.source.is_empty().then(|| Fault::new("source", "it is empty", "name an image or a device"));
        let device = unstable_device("source", &self.source);
        let expanded = |text: &str| Template { cycle: 1, base: Some(1) }.expand(text);
        let named = SourceSpec::parse(expanded(&self.source))
            .err()
            .map(|finding| Fault::new("source", finding.evidence, finding.remedy));
        let is_blob = matches!(SourceSpec::parse(expanded(&self.source)), Ok(SourceSpec::Blob(_)));
        let snapshots = (self.take_snapshots && !is_blob).then(|| {
            Fault::new(
                "take_snapshots",
                "the source is no page blob",
                "leave it out, or name a hook 'snapshot'",
            )
        });
        let feed = self.feed.as_deref().and_then(|feed| {
            let is_based = feed.contains("{base}");
            let understood = expanded(feed).parse::<FeedSpec>();
            understood.err().or((!is_based).then_some("it does not say by {base} since which cycle it tells"))
        });
        let feed = feed.map(|reason| {
            let remedy =
                "name it by the cycle that it starts from, such as bitmap:since{base}, or leave it out";
            Fault::new("feed", reason, remedy)
        });
        let faults = block_size.into_iter().chain(threads).chain(source).chain(device);
        faults.chain(named).chain(snapshots).chain(feed).collect()
    }

    /// The source and its feed as they are named, to see whether they are others.
    pub fn named(&self) -> String {
        format!("{}\n{}", self.source, self.feed.as_deref().unwrap_or_default())
    }

    /// Options of its passes.
    pub fn options(&self, window_bytes: u64) -> PassOptions {
        let options = PassOptions::default();
        PassOptions {
            // A disk whose block size is not possible is not registered.
            block_size: BlockSize::new(self.block_size.0).unwrap_or(BlockSize::DEFAULT),
            compression: self.compression.0,
            threads: self.threads.unwrap_or(options.threads),
            window_bytes,
            ..options
        }
    }
}

impl DiskEntry for Disk {
    fn id(&self) -> &DiskId {
        &self.id
    }
}

/// Compression as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompressionWord(pub Compression);

impl fmt::Display for CompressionWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Compression::Auto => f.write_str("auto"),
            Compression::Off => f.write_str("off"),
            Compression::Level(level) => level.fmt(f),
        }
    }
}

impl FromStr for CompressionWord {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self(Compression::Auto)),
            "off" => Ok(Self(Compression::Off)),
            level => match level.parse() {
                Ok(level @ 1..=22) => Ok(Self(Compression::Level(level))),
                _ => Err("compression is auto, off, or a level from 1 to 22"),
            },
        }
    }
}
