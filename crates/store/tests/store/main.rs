//! The store over folders of this host and over media that are cut off.

mod sessions;
mod support;
