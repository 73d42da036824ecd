//! Drives one pass: joins images, engine and session machines with threads, channels and byte budgets.

mod api;

pub use api::{
    Cancel, Compression, Outcome, PassError, PassOptions, Plan, Progress, Refinement, Stage, StageTimes,
    Target,
};
