//! The store over folders of this host and over media that are cut off.

mod crash;
mod cut_medium;
mod damage;
mod divergence;
mod durability_page;
mod fault_matrix;
mod faults;
mod groups;
mod histories;
mod note_text;
mod player;
mod process;
mod sessions;
mod support;
mod trust;
mod undo;
mod undo_crash;
mod undo_faults;
mod undo_kill;
mod undo_memory;
mod undo_oracle;
mod undo_races;
mod write_log;
