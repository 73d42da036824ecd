//! What a user of the programs can rely on, shown from outside: only command lines, configurations, sockets, files,
//! devices and signals.
//!
//! Needs what `tools/test` installs, and root for loop devices, mounts and network namespaces. A test that misses
//! something fails and names it.

mod blobs;
mod boot;
mod command;
mod daemons;
mod devices;
mod disks;
mod fault_matrix;
mod faults;
mod faulty_disk;
mod formats;
mod full_target;
mod host;
mod image_parts;
mod interruptions;
mod journal_kills;
mod live_guest;
mod nbd;
mod sites;
mod watch;
