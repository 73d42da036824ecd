//! What a user of the command can rely on, shown from outside: only the command line, files, devices and signals.
//!
//! Needs what `tools/test` installs, and root for loop devices and mounts. A test that misses something fails and names it.

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
mod sites;
mod watch;
