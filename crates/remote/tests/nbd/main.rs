//! NBD against the servers that people run: qemu-nbd, qemu-storage-daemon, nbdkit with its filters.

mod faults;
mod feeds;
mod reading;
mod server;
mod tls;
