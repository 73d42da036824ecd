//! The store over folders of this host and over media that are cut off.

mod crash;
mod cut_medium;
mod damage;
mod divergence;
mod faults;
mod groups;
mod process;
mod sessions;
mod support;
mod trust;
mod undo;
