//! Flat VMDKs: judged by qemu-img both ways, foreign descriptors kept, hostile ones refused, guards, growth.

mod foreign;
mod guards;
mod hostile;
mod judges;
mod lifecycle;
mod support;
