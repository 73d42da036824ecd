//! What a target keeps of its disks: one journal a machine, the digests of every block it can vouch for, and the sink
//! that writes by the journal's rules. The process server keeps its finished scan with the same means.
//!
//! The state is a fold over records: whoever appends a record applies it to the state in memory at once, and recovery
//! applies the same records in the same order. **Invariant**: a block is *trusted* exactly while the digest at hand is
//! that of the bytes on its medium, whatever is lost in a crash; doubt makes it unknown, and it is scanned again.

mod ahead;
mod block_set;
mod checkpoint;
mod choice;
mod digest_file;
mod disk;
mod disk_state;
mod error;
mod fingerprint;
mod group;
mod history;
mod journal;
mod look;
mod machine;
mod medium;
mod old_pages;
mod page_runs;
mod point;
mod recheck;
mod recover;
mod restore;
mod retention;
mod rollback;
mod segment;
mod segment_reader;
mod sink;
mod source_state;
mod thin;
mod trusted;
mod undo;

pub use choice::{
    Blocked, Blocker, Choice, ChoiceError, GroupChoice, GroupRefusal, Member, Passed, Picked, Wish,
    WishError, choose, choose_for_group,
};
pub use disk::{DiskState, DiskStore};
pub use error::StoreError;
pub use fingerprint::Fingerprint;
pub use machine::MachineStore;
pub use medium::{Folder, Medium};
pub use point::{Phase, Point, PointDisk, Standing};
pub use recheck::{Divergence, Rechecked};
pub use recover::Recovered;
pub use retention::{Forecast, Policy, UsedSample, forecast, to_drop};
pub use rollback::{OpenDisk, RollbackProgress, RolledBack};
pub use source_state::{SourceFolder, SourceState};
pub use trusted::{HeldDigests, TrustedState};
pub use undo::UndoSpace;
