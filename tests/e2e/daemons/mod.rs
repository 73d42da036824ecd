//! The two daemons as processes: disks come home over loopback, whatever happens to the ends and to the link between.
//!
//! What a test says of an end state, qemu-img judges.

mod home;
