//! What sets a session up: the first frame of each connection, and its answer.
//!
//! **Invariant**: the form of `Open` and `Error` is the same in every version, so that two ends of any versions can say
//! why they do not understand each other. What a later version adds goes into capabilities or messages of its own.

use crate::error::{ErrorKind, WireError};
use crate::field::{Reader, Result, Writer, bad};
use crate::version::Version;
use failback_model::limits::{
    BLOCK_MAX_BYTES, DATA_CONNECTIONS_MAX, DISK_MARK_MAX_BYTES, IDENTITY_MAX_BYTES, POINT_REASON_MAX_BYTES,
    SAMPLE_MAX_BLOCKS,
};
use failback_model::{
    BlockIndex, Digest, DiskId, Epoch, Generation, IdentityError, JobId, MachineId, PointClaim, PointLabel,
    ProductVersion, SessionNumber, SessionToken, TruncatedDigest,
};

/// What an end can do beyond its version. Version 1 names no bit; those it does not know it ignores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// What this build can do.
    pub const OWN: Self = Self(0);

    /// What both can do.
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// First frame of a control connection, by the sending end: what it wants to do, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Oldest protocol version that it speaks, as a number: the other end may not know it.
    pub version_min: u16,
    /// Newest one.
    pub version_max: u16,
    /// Its product version.
    pub product: ProductVersion,
    /// Its clock, milliseconds since 1970 in UTC.
    pub clock_unix_ms: u64,
    /// Whose disk.
    pub machine: MachineId,
    /// Which disk.
    pub disk: DiskId,
    /// Length of the source, bytes.
    pub length_bytes: u64,
    /// From here on the source is zero: a target that is no shorter than this can take all that it holds.
    pub content_end_bytes: u64,
    /// Size of a block, bytes.
    pub block_bytes: u32,
    /// Logical sector size of the source, bytes.
    pub sector_bytes: u32,
    /// What its partition table calls the disk (`GPT` or `MBR` and an id), at most 64 bytes; empty: there is none.
    pub disk_mark: String,
    /// Generation of the target's last state that it knows to have come from it; 0: none.
    pub generation: Generation,
    /// Root of the source where that is known; [`Digest::ZERO`]: it is not.
    pub root: Digest,
    /// The job's epoch.
    pub epoch: Epoch,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Data connections that it wants beside the control connection.
    pub data_connections: u16,
    /// Read the target anew before it is sealed.
    pub verify: bool,
    /// Bring an older state of the source on purpose.
    pub accept_older: bool,
    /// Overwrite a target that looks like another disk.
    pub accept_mismatch: bool,
    /// Scan and overwrite a target that something else wrote to since its last pass.
    pub accept_divergence: bool,
    /// The job.
    pub job: JobId,
    /// What the pass brings: the same for every disk of the machine in the job.
    pub claim: PointClaim,
    /// Blocks of the source, ascending, at most 256: what an equal disk would hold.
    pub sample: Vec<SampledBlock>,
}

/// A block of the source, of 16 KiB whatever the pass's blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampledBlock {
    /// Which block.
    pub block: BlockIndex,
    /// Its digest.
    pub digest: TruncatedDigest,
}

/// Answer to [`Open`]: the session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What both speak from here on.
    pub version: Version,
    /// The receiving end's product version.
    pub product: ProductVersion,
    /// Its clock, milliseconds since 1970 in UTC.
    pub clock_unix_ms: u64,
    /// What both can do.
    pub capabilities: Capabilities,
    /// For the data connections to join with.
    pub token: SessionToken,
    /// Number of the session; it is durable, and older ones are refused from now on.
    pub session: SessionNumber,
    /// Data connections that may join.
    pub data_connections: u16,
    /// Length of the target, bytes.
    pub length_bytes: u64,
    /// Length of the pass's disk, bytes: the source's, or the target's where the rest of the source is zero.
    pub pass_bytes: u64,
    /// Generation of the target's last sealed state; 0: none.
    pub generation: Generation,
    /// Root of that state; [`Digest::ZERO`]: there is none, or it is no longer that.
    pub root: Digest,
    /// The target reads as zero.
    pub is_new: bool,
    /// Blocks can be looked up in seeds.
    pub has_seeds: bool,
    /// Goes on from a pass that was cut: what the target trusts, it does not scan again.
    pub is_resumed: bool,
    /// Something else had written to the target; that was accepted, and all of it is scanned.
    pub is_divergence_accepted: bool,
    /// Most bytes of pages that may be under way.
    pub window_bytes: u64,
}

/// First frame of a data connection, by the sending end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The session's version.
    pub version: Version,
    /// The session's token.
    pub token: SessionToken,
    /// Which data connection of the session, from 0.
    pub index: u16,
}

impl Writer {
    fn version(&mut self, version: Version) -> &mut Self {
        self.number(version.number().into())
    }

    fn product(&mut self, product: ProductVersion) -> &mut Self {
        self.number(product.major.into()).number(product.minor.into()).number(product.patch.into())
    }

    pub(crate) fn open(&mut self, open: &Open) -> &mut Self {
        self.number(open.version_min.into()).number(open.version_max.into());
        self.product(open.product).number(open.clock_unix_ms);
        self.text(open.machine.as_str()).text(open.disk.as_str());
        self.number(open.length_bytes).number(open.content_end_bytes).number(open.block_bytes.into());
        self.number(open.sector_bytes.into()).text(&open.disk_mark);
        self.number(open.generation.0).bytes(&open.root.0).number(open.epoch.0);
        self.number(open.capabilities.0).number(open.data_connections.into());
        self.flag(open.verify)
            .flag(open.accept_older)
            .flag(open.accept_mismatch)
            .flag(open.accept_divergence);
        self.text(open.job.as_str()).claim(&open.claim);
        assert!(open.sample.len() <= SAMPLE_MAX_BLOCKS, "a sample of {} blocks", open.sample.len());
        self.number(open.sample.len() as u64);
        let mut next = 0;
        open.sample.iter().fold(self, |w, named| w.step(named.block.0, &mut next).bytes(&named.digest.0))
    }

    fn claim(&mut self, claim: &PointClaim) -> &mut Self {
        assert!(PointClaim::is_reason(&claim.reason), "the other end refuses {:?}", claim.reason);
        self.number(claim.source_unix_ms).number(claim.label.number().into()).text(&claim.reason);
        self.number(claim.cycle)
    }

    pub(crate) fn welcome(&mut self, welcome: &Welcome) -> &mut Self {
        self.version(welcome.version).product(welcome.product).number(welcome.clock_unix_ms);
        self.number(welcome.capabilities.0).bytes(&welcome.token.0).number(welcome.session.0);
        self.number(welcome.data_connections.into()).number(welcome.length_bytes).number(welcome.pass_bytes);
        self.number(welcome.generation.0).bytes(&welcome.root.0);
        self.flag(welcome.is_new)
            .flag(welcome.has_seeds)
            .flag(welcome.is_resumed)
            .flag(welcome.is_divergence_accepted)
            .number(welcome.window_bytes)
    }

    pub(crate) fn join(&mut self, join: &Join) -> &mut Self {
        self.version(join.version).bytes(&join.token.0).number(join.index.into())
    }
}

impl Reader<'_> {
    fn half(&mut self, field: &'static str) -> Result<u16> {
        self.at_most(u16::MAX.into(), field).map(|number| number as u16)
    }

    /// A version that must be one that this build speaks.
    pub(crate) fn version(&mut self, field: &'static str) -> Result<Version> {
        let number = u16::try_from(self.number(field)?).ok().and_then(Version::from_number);
        number.ok_or(WireError::new(ErrorKind::UnknownVersion, field))
    }

    fn product(&mut self) -> Result<ProductVersion> {
        let mut part = || self.at_most(u32::MAX as usize, "product version").map(|number| number as u32);
        Ok(ProductVersion { major: part()?, minor: part()?, patch: part()? })
    }

    fn id<T>(
        &mut self,
        field: &'static str,
        new: impl Fn(&str) -> std::result::Result<T, IdentityError>,
    ) -> Result<T> {
        new(self.text_of(IDENTITY_MAX_BYTES, field)?).map_err(|_| bad(field))
    }

    fn token(&mut self) -> Result<SessionToken> {
        let bytes = self.slice(16, "token")?;
        Ok(SessionToken(bytes.try_into().map_err(|_| bad("token"))?))
    }

    /// Number of a data connection, or how many there are.
    pub(crate) fn data_connections(&mut self, field: &'static str) -> Result<u16> {
        self.at_most(DATA_CONNECTIONS_MAX, field).map(|number| number as u16)
    }

    pub(crate) fn open(&mut self) -> Result<Open> {
        Ok(Open {
            version_min: self.half("oldest version")?,
            version_max: self.half("newest version")?,
            product: self.product()?,
            clock_unix_ms: self.number("clock")?,
            machine: self.id("machine", |text| MachineId::new(text))?,
            disk: self.id("disk", |text| DiskId::new(text))?,
            length_bytes: self.number("length")?,
            content_end_bytes: self.number("end of contents")?,
            block_bytes: self.at_most(BLOCK_MAX_BYTES as usize, "block size")? as u32,
            sector_bytes: self.at_most(u32::MAX as usize, "sector size")? as u32,
            disk_mark: self.text_of(DISK_MARK_MAX_BYTES, "disk mark")?.to_owned(),
            generation: Generation(self.number("generation")?),
            root: self.digest("root")?,
            epoch: Epoch(self.number("epoch")?),
            capabilities: Capabilities(self.number("capabilities")?),
            data_connections: self.data_connections("data connections")?,
            verify: self.flag("verify")?,
            accept_older: self.flag("accept older")?,
            accept_mismatch: self.flag("accept mismatch")?,
            accept_divergence: self.flag("accept divergence")?,
            job: self.id("job", |text| JobId::new(text))?,
            claim: self.claim()?,
            sample: self.sample()?,
        })
    }

    fn claim(&mut self) -> Result<PointClaim> {
        let source_unix_ms = self.number("source time")?;
        let label = u8::try_from(self.number("label")?).ok().and_then(PointLabel::of_number);
        let label = label.ok_or(bad("label"))?;
        let reason = self.text_of(POINT_REASON_MAX_BYTES, "reason of the label")?.to_owned();
        let cycle = self.number("cycle")?;
        match PointClaim::is_reason(&reason) {
            true => Ok(PointClaim { source_unix_ms, label, reason, cycle }),
            false => Err(bad("reason of the label")),
        }
    }

    fn sample(&mut self) -> Result<Vec<SampledBlock>> {
        let count = self.at_most(SAMPLE_MAX_BLOCKS, "sample")?;
        let mut next = 0;
        let mut named = || {
            let block = BlockIndex(self.step(&mut next, "sampled block")?);
            let digest = self.slice(16, "sampled digest")?.try_into().map_err(|_| bad("sampled digest"))?;
            Ok(SampledBlock { block, digest: TruncatedDigest(digest) })
        };
        (0..count).map(|_| named()).collect()
    }

    pub(crate) fn welcome(&mut self) -> Result<Welcome> {
        Ok(Welcome {
            version: self.version("welcome")?,
            product: self.product()?,
            clock_unix_ms: self.number("clock")?,
            capabilities: Capabilities(self.number("capabilities")?),
            token: self.token()?,
            session: SessionNumber(self.number("session")?),
            data_connections: self.data_connections("data connections")?,
            length_bytes: self.number("length")?,
            pass_bytes: self.number("pass length")?,
            generation: Generation(self.number("generation")?),
            root: self.digest("root")?,
            is_new: self.flag("is new")?,
            has_seeds: self.flag("has seeds")?,
            is_resumed: self.flag("is resumed")?,
            is_divergence_accepted: self.flag("is divergence accepted")?,
            window_bytes: self.number("window")?,
        })
    }

    pub(crate) fn join(&mut self) -> Result<Join> {
        Ok(Join {
            version: self.version("join")?,
            token: self.token()?,
            index: self.data_connections("data connection")?,
        })
    }
}
