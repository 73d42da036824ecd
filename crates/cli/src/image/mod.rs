//! `failback image`: look at, make, copy and check disk images.

pub(crate) mod check;
pub(crate) mod convert;
pub(crate) mod create;
pub(crate) mod info;
