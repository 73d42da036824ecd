//! Findings: what is wrong or worth knowing, with a stable code, the evidence and the remedy.
//!
//! **Invariant**: a code keeps its meaning for ever; its text may improve. What a finding's fields say, its evidence
//! says in words.

use std::path::{Path, PathBuf};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Goes on, but look at it.
    Warning,
    /// Stops the command.
    Error,
}

impl Severity {
    /// Lower-case word used in text and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a command's exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// 0: done.
    Success,
    /// 1: failed for a reason of the machine or of this program.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 3: refused before anything was written.
    Refused,
    /// 4: failed on the way; run it again once the cause is gone.
    Interrupted,
    /// 5: contents are not what they must be.
    Mismatch,
    /// 130: ended by a signal; a second run finishes the job.
    Signal,
}

impl ExitClass {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Interrupted => 4,
            Self::Mismatch => 5,
            Self::Signal => 130,
        }
    }
}

/// Where and why, as fields for whoever reads by machine; what is not known is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// What was being done: `open`, `read`, …
    pub operation: Option<&'static str>,
    /// On which file or device.
    pub path: Option<PathBuf>,
    /// Where in it, bytes from its start.
    pub offset_bytes: Option<u64>,
    /// Why, in words, with what the operating system said.
    pub reason: Option<String>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    /// Weight.
    pub severity: Severity,
    /// What was seen: path, offset, values.
    pub evidence: String,
    /// What to do; the code's own remedy unless a better one is known.
    pub remedy: String,
    /// Operation, path, offset and reason. Boxed: most results that carry a finding are fine.
    pub place: Box<Place>,
}

impl Finding {
    /// An error with the code's own remedy.
    pub fn error(code: Code, evidence: impl Into<String>) -> Self {
        let (evidence, remedy) = (evidence.into(), code.remedy().into());
        Self { code, severity: Severity::Error, evidence, remedy, place: Box::default() }
    }

    /// A warning with the code's own remedy.
    pub fn warning(code: Code, evidence: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, evidence) }
    }

    /// Something worth knowing, with the code's own remedy.
    pub fn info(code: Code, evidence: impl Into<String>) -> Self {
        Self { severity: Severity::Info, ..Self::error(code, evidence) }
    }

    /// The same finding with a remedy that fits it better.
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// The same finding with what is known of where and why.
    pub fn with_place(self, place: Place) -> Self {
        Self { place: Box::new(place), ..self }
    }

    /// The same finding with the file or device it is about.
    pub fn about(mut self, path: impl AsRef<Path>) -> Self {
        self.place.path = Some(path.as_ref().into());
        self
    }
}

impl Code {
    /// Whether an end that stops with it does so in good order: on request, or because its daemon stops. No error of
    /// either end.
    pub const fn is_orderly_stop(self) -> bool {
        matches!(self, Self::Cancelled | Self::Draining | Self::MachineStopped)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $exit:ident, $title:literal, $remedy:literal;)*) => {
        /// Stable codes of everything that can be found or fail. `FB1xx` images, `FB2xx` input and output,
        /// `FB3xx` guards, `FB4xx` the pass, `FB5xx` the peer and the wire, `FB6xx` the journal,
        /// `FB7xx` the daemons, `FB8xx` certificates and receipts, `FB9xx` the command itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* #[doc = $title] $name,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The code as printed.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The code that is printed like this; `None` where there is none, as a newer peer may have.
            pub fn from_text(text: &str) -> Option<Self> { match text { $($text => Some(Self::$name),)* _ => None } }
            /// What it means, in a few words.
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
            /// What to do about it where nothing better is known.
            pub const fn remedy(self) -> &'static str { match self { $(Self::$name => $remedy,)* } }
            /// The exit code's class when it ends a command.
            pub const fn exit(self) -> ExitClass { match self { $(Self::$name => ExitClass::$exit,)* } }
        }
    };
}

codes! {
    ImageFormatUnknown = "FB101", Refused, "image format cannot be told from the name", "put vmdk:, vhd:, vhdx: or raw: before the path";
    ImageFormatDisagrees = "FB102", Refused, "image content is not what its name says", "check the path, or name the true format with a prefix such as raw: or vmdk:";
    ImageDamaged = "FB103", Refused, "image metadata is damaged or hostile", "run 'failback image check' on it and restore the image from a good copy";
    ImageUnsupported = "FB104", Refused, "image kind is not supported here", "hot-add the disk to this host and use the block device, or consolidate the snapshots first";
    ImageReadOnlyKind = "FB105", Refused, "image kind cannot be written in place", "sync into a new image and replace the old one, or convert it with 'failback image convert'";
    ImageExtentEscapes = "FB106", Refused, "VMDK names an extent outside its own folder", "do not trust this descriptor; extents must lie beside it";
    ImageHasChild = "FB107", Refused, "a delta disk names this image as its parent", "consolidate the machine's snapshots, then try again";
    ImageSizeUnsupported = "FB108", Refused, "size is not possible in this format", "choose a size the format can hold, or the raw format";
    ImageExists = "FB109", Refused, "file exists already", "choose another path or remove the file";
    ImageUnclean = "FB110", Refused, "sparse image was not closed cleanly", "run 'failback image check', then sync again: every block is compared anyway";
    ImageCheck = "FB111", Mismatch, "image check found a fault", "restore the image from a good copy or sync it again";
    OpenFailed = "FB201", Refused, "cannot open", "check that the path exists and that this user may open it";
    ReadFailed = "FB202", Interrupted, "read failed", "check the medium (dmesg, smartctl); run the same command again when it reads";
    WriteFailed = "FB203", Interrupted, "write failed", "check the medium and its free space; run the same command again to finish";
    FlushFailed = "FB204", Interrupted, "flush to the medium failed", "nothing after the last flush is certain: check the medium, then run the same command again";
    NoSpace = "FB205", Interrupted, "no space left on the target's file system", "free some space, then run the same command again to finish";
    ChangedMeanwhile = "FB206", Interrupted, "source changed while it was read", "stop what writes to the source or take a snapshot of it, then run the same command again";
    CreateFailed = "FB207", Refused, "cannot create", "check the folder, its free space and this user's rights";
    InUse = "FB301", Refused, "image or device is in use", "close what uses it (virtual machine, other failback, mount), then try again";
    DeviceMounted = "FB302", Refused, "device is mounted or used as swap", "unmount it or swapoff, then try again";
    DeviceHeld = "FB303", Refused, "device is held by LVM, md, dm or a partition of it is in use", "deactivate the volume group or array, then try again";
    DeviceIsHosts = "FB304", Refused, "device is one of this host's own disks", "name the hot-added disk instead; see lsblk";
    WrongDisk = "FB305", Refused, "target looks like another disk", "compare the two disks; --accept-mismatch if the target may be overwritten";
    TargetTooSmall = "FB306", Refused, "source is longer than the target", "extend the target, or sync into a new image";
    SectorSizeDiffers = "FB307", Refused, "logical sector sizes differ", "use a target with the source's sector size";
    SameImage = "FB308", Refused, "source and target are the same file", "name two different images";
    ExcessTrimmed = "FB309", Refused, "source is longer than the target, its excess is zero", "nothing to do: the excess holds only zeros";
    TargetLonger = "FB310", Refused, "target is longer than the source", "nothing to do: the target keeps its tail untouched";
    ChangeTracking = "FB311", Refused, "changed block tracking (CBT) is active on the target's disk", "reset CBT and take a full backup after the pass: the map cannot know of these writes";
    Diverged = "FB312", Refused, "something else wrote to the target since its last pass", "find out what used the disk (machine powered on, file restored or replaced, device resized) and stop it; then 'failback reprotect MACHINE --accept-divergence' scans it and overwrites what was written";
    BlockSizeInvalid = "FB401", Usage, "block size is not possible", "choose a power of two from 16K to 1M";
    RootMismatch = "FB402", Mismatch, "target's root differs from the source's after repair", "check both media for errors and that the source does not change, then run the same command again";
    Cancelled = "FB403", Signal, "stopped on request", "run the same command again to finish the job";
    VerifyFailed = "FB404", Mismatch, "blocks read back from the target are wrong", "check the target's medium (dmesg, smartctl), then run the same command again";
    SeedUnusable = "FB405", Refused, "seed cannot be used", "check the seed's path, or leave it out";
    ManifestDamaged = "FB406", Refused, "manifest is damaged", "delete the manifest; the disk is scanned instead";
    PartRemoved = "FB407", Refused, "partly written image was removed", "run the same command again; it starts from nothing";
    SnapshotFailed = "FB408", Interrupted, "snapshot hook failed", "run the machine's 'snapshot' by hand as the daemon does: docs/operating.md, \"What a point is worth\"; it is tried again";
    QuiesceFailed = "FB409", Interrupted, "hook around the snapshot failed", "correct the machine's 'before_snapshot' or 'after_snapshot'; until then its points are not app-consistent";
    SourceUnreachable = "FB410", Interrupted, "source cannot be reached", "check its address, the network and that its server runs; it is tried again";
    SourceDenied = "FB411", Interrupted, "source refuses access", "renew the signature or the token that it is read with; the pass waits and goes on from where it was";
    SourceThrottled = "FB412", Interrupted, "source is throttled", "nothing to do: it is asked more slowly and tried again";
    SourceUnsupported = "FB413", Refused, "source cannot be read here", "see what is said of it";
    FeedUnusable = "FB414", Refused, "change feed cannot be used", "nothing to do: the disk is scanned instead; see why to have the next cycle cost less";
    FeedLied = "FB415", Mismatch, "change feed left out what had changed", "nothing to do for this pass: the disk is scanned; find out what writes past the feed, or leave the feed out";
    ContentEncrypted = "FB416", Refused, "contents are encrypted", "keep the keys: the disk comes home as it is, unreadable without them; encrypted data neither compresses nor repeats";
    NotConverging = "FB417", Refused, "cycles do not converge", "raise the bandwidth, lower the churn, or plan a longer final cycle";
    SnapshotLimit = "FB418", Interrupted, "cloud allows no further snapshot or access now", "nothing to do: it waits and tries again; see which limit";
    CloudFailed = "FB419", Interrupted, "cloud refused a request", "see what it said; it is tried again where that can help";
    FinalFailed = "FB420", Refused, "final cycle was not made", "the source runs on: see which step failed, then 'failback cycle MACHINE --final' again";
    BudgetSpent = "FB421", Interrupted, "deadline or budget cannot be kept", "raise --max-egress or --finish-by, or go on without";
    SecretExposed = "FB422", Usage, "a signature stands where others can read it", "put it into a file of mode 0600 and name that as @FILE, or use env:NAME or credential:NAME";
    NbdBroken = "FB430", Failure, "NBD server breaks the protocol", "see what it said; read the export with nbdinfo, and report this with both";
    BlobMissing = "FB440", Refused, "page blob or snapshot is not there", "check the URL and the snapshot's time; a snapshot that was deleted cannot be read";
    BlobUnsupported = "FB441", Refused, "blob is no disk that can be read here", "see what it is; a disk of 4096-byte sectors (VHDX) is read over NBD from a machine that holds it";
    BlobNetworkDenied = "FB442", Refused, "the disk's network policy refuses this host", "set the snapshot's networkAccessPolicy to AllowAll, or read it from inside the network that its disk access resource allows";
    BlobTokenNeeded = "FB443", Refused, "the disk is read with an Entra token only", "give an identity with the role 'Data Operator for Managed Disks', or set the snapshot's dataAccessAuthMode to None";
    ProtocolViolation = "FB501", Failure, "peer broke the protocol", "both ends must be the same version; report this with both logs";
    PeerFailed = "FB502", Interrupted, "the other end stopped with an error", "see the other end's error, then run the same command again";
    VersionMismatch = "FB503", Refused, "ends speak no protocol version in common", "bring both ends to releases that share one: the master target first";
    IdentityNotAllowed = "FB504", Refused, "peer's certificate is not allowed to do that", "add its name to the disk's allow-list at the master target, or use the certificate that is on it";
    UnknownDisk = "FB505", Refused, "machine or disk is not registered at the master target", "register it there, or correct the id";
    ProductVersionOrder = "FB506", Refused, "master target is newer than the process server", "update the process server first";
    SourceOlder = "FB507", Refused, "job or source is older than what the target has", "use the newest job and snapshot; --accept-older brings an older state of the source on purpose";
    ClocksDiffer = "FB508", Refused, "clocks of the two ends differ", "set both clocks (NTP), then try again";
    ConnectionLost = "FB509", Interrupted, "connection was lost", "check the network between the ends; the next session goes on from the last durable group";
    TlsFailed = "FB510", Refused, "TLS handshake failed", "check both certificates, their CA, names, validity and the revocation list with 'failback pki show'";
    TimedOut = "FB511", Interrupted, "peer did not answer in time", "check the network and the other end's load; the next session goes on from the last durable group";
    TooManyConnections = "FB512", Interrupted, "too many connections", "raise the limit at the listening end, or try again later";
    StaleSession = "FB513", Interrupted, "session was replaced by a newer one", "nothing to do where the newer one is yours; else find out who else sends to this disk";
    JournalDamaged = "FB601", Refused, "journal is damaged", "keep a copy of the machine's state folder, then move its journal and its undo log away: the next pass scans the disks instead, and all recovery points are given up";
    JournalFailed = "FB602", Interrupted, "journal cannot be written", "check the state folder's medium and its free space; the next session goes on from the last durable group";
    JournalInUse = "FB603", Refused, "journal is in use", "another process keeps this machine's state: stop it first";
    JournalLatched = "FB604", Interrupted, "journal refuses everything after a failure", "see the failure before this one; the next session opens the journal anew";
    MachineReleased = "FB605", Refused, "machine was cut over, cancelled or committed", "nothing writes to its disks any more: to replicate again, begin a new job with 'failback reprotect' at the process server";
    AlreadyCommitted = "FB606", Refused, "nothing is left to take back or to commit", "see 'failback points list': what is there is final until a new 'failback reprotect'";
    PointUnknown = "FB607", Refused, "no such recovery point, or not for this", "choose one of those that 'failback points list' shows";
    UndoSpace = "FB608", Refused, "undo log has too little space", "free space on the volume of journal_dir, or drop points with 'failback points drop'";
    UndoDamaged = "FB609", Mismatch, "what was restored is not what the point was", "keep the disks and the undo log as they are; go to another point, or bring the disk home anew with 'failback reprotect'";
    ConfigInvalid = "FB701", Refused, "configuration is invalid", "correct the file; 'failback-master-target --check-config' and 'failback-process-server --check-config' test it";
    RequestInvalid = "FB702", Refused, "control request is invalid", "correct the request; docs/control.md lists them all";
    UnknownMachine = "FB703", Refused, "machine or disk is not registered with this daemon", "see 'failback status' for what is, or register it";
    AlreadyRunning = "FB704", Refused, "already running", "wait for it, or stop it first with 'failback stop'";
    DaemonUnreachable = "FB705", Failure, "daemon cannot be reached", "check that it runs (systemctl status) and that --socket names its control socket";
    Draining = "FB706", Interrupted, "daemon is stopping", "try again once it runs again";
    StateFailed = "FB707", Failure, "daemon's state folder failed", "check the folder of state_dir: its rights, its medium and its free space";
    Busy = "FB708", Interrupted, "daemon has too many control connections", "close some, then try again";
    NotConfirmed = "FB709", Refused, "command was not confirmed", "run it on a terminal and confirm, or add --yes";
    MachineStopped = "FB710", Interrupted, "machine is stopped", "resume it with 'failback resume'";
    OperationPending = "FB711", Interrupted, "a cut-over, cancel or commit of the machine is under way or was cut off", "see 'failback status' at the master target: the same command again finishes what was cut off";
    NotReleased = "FB712", Refused, "machine was not cut over", "cut over first: 'failback cutover MACHINE --point latest'";
    ReceiptNeeded = "FB713", Refused, "no receipt of what was cut over to", "take one before power-on: 'failback verify MACHINE --wait'; --without-receipt commits without that proof";
    AuditFailed = "FB714", Failure, "audit log cannot be written", "check the state folder's medium, its rights and its free space: no such verb begins without its line";
    UndoLow = "FB715", Refused, "space for undo runs low", "extend the file system of journal_dir, drop points ('failback points drop'), keep fewer ([retention]), or commit";
    NotPunched = "FB716", Refused, "thin images keep what is zero", "give it back by the hypervisor's own means once nothing uses the images";
    OldPoint = "FB717", Refused, "recovery point is not what the disks hold", "only the newest point can be read back in place; cut over to an older one first";
    PkiExists = "FB801", Refused, "certificate authority exists already", "name a new folder, or use the authority that is there";
    PkiMissing = "FB802", Refused, "no certificate authority here", "name the authority's folder, or make one with 'failback pki init'";
    PkiDamaged = "FB803", Refused, "certificate authority is damaged", "restore its folder from a backup; its files belong together";
    PkiIdentityInvalid = "FB804", Usage, "certificate cannot be made as asked", "correct the name, the addresses or the validity";
    PkiUnknown = "FB805", Refused, "no such certificate", "list what was issued with 'failback pki show'";
    PkiCertificateExists = "FB806", Refused, "identity has a valid certificate", "renew it with 'failback pki renew', or revoke it first if its key is lost";
    PkiAuthorityExpires = "FB807", Refused, "certificate authority comes to its end", "ask for a shorter validity, or make a new authority and add its ca.pem to the old one on every daemon";
    ReceiptInvalid = "FB851", Mismatch, "receipt is damaged or was changed", "get the file anew from the master target with 'failback receipt show'; believe nothing of this one";
    ReceiptKeyDiffers = "FB852", Mismatch, "receipt was signed by another key", "compare the fingerprint with the master target's own ('failback receipt key'), over another way than the receipt came";
    ReceiptDiskDiffers = "FB853", Mismatch, "image is not what the receipt says", "do not use the image; look who wrote to it since the receipt's time, or bring the disk home again";
    ReceiptChainBroken = "FB854", Mismatch, "a receipt of the machine is missing or was replaced", "restore the receipts from a backup; where that is not possible, find out who removed them";
    ReceiptDiskUnknown = "FB855", Refused, "receipt has no such disk", "name a disk that is in the receipt";
    ReceiptMissing = "FB856", Refused, "no such receipt", "take one with 'failback verify MACHINE --wait'";
    ReceiptKeyInvalid = "FB857", Refused, "key for receipts cannot be used", "give the path of an Ed25519 key in PKCS#8 PEM ('openssl genpkey -algorithm ed25519'), or leave receipt_key out";
    ReceiptWeak = "FB858", Refused, "receipt proves less than it could", "see what is said of it";
    Usage = "FB901", Usage, "command line is wrong", "see --help";
    Internal = "FB902", Failure, "internal error", "report this with the command line and this text";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_each_has_a_remedy() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            assert!(code.as_str().len() == 5 && code.as_str().starts_with("FB"));
            assert!(!code.title().is_empty() && !code.remedy().is_empty());
            assert_eq!(Code::from_text(code.as_str()), Some(*code));
        }
    }
}
