//! What a journal can say.

use super::undo::Undo;
use failback_model::{
    BlockIndex, BlockRange, Digest, DiskId, Epoch, Generation, Layout, PointClaim, SessionNumber,
};

/// A disk's number within one journal: records name it by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskSlot(pub u16);

impl DiskSlot {
    /// In the place of a disk in records that are about the whole machine.
    pub const MACHINE: Self = Self(u16::MAX);
}

/// What is known of a disk's blocks when a session begins or a state is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// What was trusted before still is.
    Kept,
    /// Nothing: every block is to be scanned.
    Nothing,
    /// Everything: after a seal as sealed, at the start of a session as zeros, since the disk is new.
    Everything,
}

/// One record. Ranges are not empty, ascend and share no block; so do the entries of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A disk that the journal did not know; it takes the next slot.
    Disk {
        /// Its id.
        id: DiskId,
    },
    /// A session begins to write to the disk.
    Session {
        /// Epoch of its job.
        epoch: Epoch,
        /// Its number.
        number: SessionNumber,
        /// The disk's layout from now on.
        layout: Layout,
        /// What is known of the blocks.
        trust: Trust,
    },
    /// These blocks were read: this is what they hold.
    Scanned {
        /// Which blocks.
        blocks: BlockRange,
        /// A digest for each; `None` where all are zero.
        digests: Option<Vec<Digest>>,
    },
    /// These blocks are about to change: what they hold is unknown until a commit names them.
    Intent {
        /// The commit group that was open.
        group: u64,
        /// Which blocks.
        blocks: Vec<BlockRange>,
    },
    /// These blocks are durable on the medium and hold this.
    Commit {
        /// The commit group that was closed.
        group: u64,
        /// Blocks and their digests.
        entries: Vec<(BlockIndex, Digest)>,
        /// Blocks that are zero.
        zeros: Vec<BlockRange>,
    },
    /// The disk is a whole state of its source.
    Seal {
        /// Number of that state.
        generation: Generation,
        /// Its root.
        root: Digest,
        /// What the image's files looked like.
        fingerprint: Digest,
        /// [`Trust::Everything`], or [`Trust::Nothing`] where the digests at hand did not give the root.
        trust: Trust,
        /// When, milliseconds since 1970.
        at_unix_ms: u64,
        /// What the sending end said of the state.
        claim: PointClaim,
    },
    /// The image was closed, and its files looked like this.
    Released(Left),
    /// Nothing of the disk is trusted any more.
    Forget,
    /// The digests of these blocks turned out to be wrong; the disk itself does not change.
    Doubted {
        /// Which blocks.
        blocks: Vec<BlockRange>,
    },
    /// All that is known of one disk; only at the start of a segment, one for each slot in turn.
    Checkpoint(Box<DiskCheckpoint>),
    /// The digests that the disk's manifest holds of these blocks are right: in a checkpoint, or where blocks were
    /// intended to change and did not.
    Trusted {
        /// Which blocks.
        blocks: Vec<BlockRange>,
    },
    /// The disk's image was made by a session: there is no original to go back to.
    Created,
    /// A recovery point of the machine; one that has its number is replaced.
    Point(Point),
    /// A point is given up.
    PointDropped {
        /// Its number.
        number: u64,
    },
    /// What became of the machine.
    Phase(Phase),
    /// What pages held before they changed; only in segments of undo.
    Undo(Undo),
}

/// A state of all disks of a machine that the undo behind it leads back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its number: 0 is the original, others count up.
    pub number: u64,
    /// The first segment of undo that came after it.
    pub undo_from: u64,
    /// When it was recorded, milliseconds since 1970.
    pub sealed_unix_ms: u64,
    /// What the sending end said of it.
    pub claim: PointClaim,
    /// The point that was gone back to, where this one came to be so.
    pub restored: Option<u64>,
    /// Its disks, in the order of their slots.
    pub disks: Vec<PointDisk>,
}

/// A disk in a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointDisk {
    /// Which disk.
    pub slot: DiskSlot,
    /// Number of the sealed state; 0: it was not sealed.
    pub generation: Generation,
    /// The disk that was sealed.
    pub layout: Option<Layout>,
    /// Root of that state, where it is known.
    pub root: Option<Digest>,
}

/// What became of a machine, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// What.
    pub kind: PhaseKind,
    /// The point it stands at, where it was released.
    pub point: u64,
    /// Jobs up to this epoch are over.
    pub epoch: Epoch,
    /// Since when, milliseconds since 1970.
    pub at_unix_ms: u64,
}

/// What may become of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PhaseKind {
    /// Passes may write to it.
    Replicating,
    /// It was cut over to a point, and its disks handed over.
    Released,
    /// It is the original again, and its disks handed over.
    Cancelled,
    /// What it is is final.
    Committed,
    /// Something else wrote to a disk and that was accepted: no earlier state can be had back.
    HistoryEnded,
}

/// How a disk was left when its image was closed in good order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What the image's files looked like.
    pub fingerprint: Digest,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The block that trusted blocks are read again from.
    pub recheck_from: BlockIndex,
    /// What the fingerprint was made of, in words; its first lines where it is long.
    pub look: String,
}

/// What a checkpoint says of one disk, its trusted ranges apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCheckpoint {
    /// Its id.
    pub id: DiskId,
    /// Number of the last sealed state; 0 before the first.
    pub generation: Generation,
    /// Root of that state.
    pub root: Option<Digest>,
    /// Epoch of the last session.
    pub epoch: Epoch,
    /// Number of the last session; 0 before the first.
    pub session: SessionNumber,
    /// Layout of the last session.
    pub layout: Option<Layout>,
    /// Whether the disk began to change since it was sealed.
    pub in_pass: bool,
    /// What the image's files looked like when they were last known.
    pub fingerprint: Option<Digest>,
    /// The commit group that is open.
    pub group: u64,
    /// Whether a session made its image.
    pub is_created: bool,
    /// How the last state was sealed, where one was.
    pub sealed: Option<SealedAs>,
}

/// How a state was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAs {
    /// Epoch of the job.
    pub epoch: Epoch,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What the sending end said of it.
    pub claim: PointClaim,
}
