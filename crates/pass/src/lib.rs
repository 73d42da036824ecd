//! Drives one pass: joins images, engine and session machines with threads, channels and byte budgets.
//!
//! `run` starts the two ends (`sending`, `receiving`) on a pair of links within this process; daemons run one end each on a link of their own. Each end is one loop that owns its machine;
//! `ship` and `apply` are the threads that work for them.

mod api;
mod apply;
mod blocks;
mod facts;
mod guarded;
mod image_sink;
mod kept;
mod level;
mod link;
mod pace;
mod plan;
mod planned;
mod predict;
mod prove;
mod receiving;
mod run;
mod sample;
mod sending;
mod ship;
mod source_time;
mod stage;
mod wrong_disk;

pub use api::{Cancel, Compression, Outcome, PassError, PassOptions, Progress, Refinement, Target};
pub use facts::{SourceFacts, content_end_bytes, disk_mark};
pub use guarded::guarded_end;
pub use link::Link;
pub use pace::{Counter, Measure, Pace, Totals, View, limiting};
pub use plan::plan;
pub use planned::{ASSUMED_READ_BYTES_PER_SECOND, ASSUMED_WRITE_BYTES_PER_SECOND, End, Plan, ShipEstimate};
pub use receiving::{ReceivingEnd, Sealed};
pub use run::{OpenSink, hash, index_seeds, layout_of, run, run_into, run_planned};
pub use sample::is_another_disk;
pub use sending::SendingEnd;
pub use source_time::source_unix_ms;
pub use stage::{Inside, Stage, StageTimes};
