//! Sparse and streamOptimized VMDKs: what other programs say of ours and we of theirs, hostile and truncated files,
//! power cuts. Needs qemu-img, vmdkinfo (libvmdk-utils) and a Python with dissect.hypervisor.

mod crash;
mod hostile;
mod judges;
mod lifecycle;
mod stream;
mod support;
