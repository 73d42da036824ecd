//! The store over folders of this host and over media that are cut off.

mod crash;
mod cut_medium;
mod sessions;
mod support;
