//! Refuses to write to a block device that this host uses.
//!
//! **Invariant**: the device, its partitions and the disk it is a partition of are looked at together: bytes written to
//! one are bytes of the others.

use super::host::{DeviceNumber, Host};
use failback_blockio::{DiskError, Operation};
use failback_model::Code;
use std::collections::BTreeSet;
use std::path::Path;

/// Fails naming the use that forbids writing.
pub(super) fn require_unused(host: &Host, path: &Path, device: DeviceNumber) -> Result<(), DiskError> {
    let refuse = |(code, reason): (Code, String)| Err(DiskError::new(code, Operation::Open, path, reason));
    let same_bytes = same_bytes(host, device);
    let uses = [host_use(host, &same_bytes), mount_or_swap(host, &same_bytes), holder(host, &same_bytes)];
    uses.into_iter().flatten().next().map_or(Ok(()), refuse)
}

/// Where a device that is to be read is mounted for writing: it may change while it is read.
pub(super) fn mounted_for_writing(host: &Host, device: DeviceNumber) -> Option<String> {
    let same_bytes = same_bytes(host, device);
    host.mounts().into_iter().filter(|mount| mount.is_writable).find_map(|mount| {
        let of_mount = [mount.number, mount.source];
        let device = of_mount.into_iter().flatten().find(|device| same_bytes.contains(device))?;
        Some(format!("{} is mounted at {} for writing", host.name(device), mount.point.display()))
    })
}

/// The device, its partitions and the disk it is a partition of.
fn same_bytes(host: &Host, device: DeviceNumber) -> BTreeSet<DeviceNumber> {
    let mut same_bytes = BTreeSet::from([device]);
    same_bytes.extend(host.partitions(device));
    same_bytes.extend(host.disk_of_partition(device));
    same_bytes
}

/// The disk that this host's root lies on, whatever lies between.
fn host_use(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    let mounts = host.mounts();
    let roots = mounts.iter().filter(|mount| mount.point == Path::new("/"));
    let found = roots
        .flat_map(|mount| [mount.number, mount.source])
        .flatten()
        .flat_map(|root| host.foundations(root))
        .find(|foundation| same_bytes.contains(foundation))?;
    Some((Code::DeviceIsHosts, format!("this host's root file system lies on {}", host.name(found))))
}

fn mount_or_swap(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    for mount in host.mounts() {
        let of_mount = [mount.number, mount.source];
        if let Some(device) = of_mount.into_iter().flatten().find(|device| same_bytes.contains(device)) {
            let reason = format!("{} is mounted at {}", host.name(device), mount.point.display());
            return Some((Code::DeviceMounted, reason));
        }
    }
    let swap = host.swaps().into_iter().find(|device| same_bytes.contains(device))?;
    Some((Code::DeviceMounted, format!("{} is swap space", host.name(swap))))
}

fn holder(host: &Host, same_bytes: &BTreeSet<DeviceNumber>) -> Option<(Code, String)> {
    same_bytes.iter().find_map(|&device| {
        let holder = *host.holders(device).first()?;
        Some((Code::DeviceHeld, format!("{} is held by {}", host.name(device), host.name(holder))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A host that describes itself in a folder: `sda` with partitions 1 and 2, of which dm `root` is made of 2;
    /// `sdb` with partition 1, of which md0 is made; `sdc` with partitions 1 (mounted) and 2 (swap); `sdd`, unused.
    struct Fake {
        root: TempDir,
    }

    impl Fake {
        fn new() -> Self {
            let fake = Self { root: tempfile::tempdir().expect("a folder") };
            for (name, number) in [("sda", "8:0"), ("sdb", "8:16"), ("sdc", "8:32"), ("sdd", "8:48")] {
                fake.device(name, number);
            }
            for (name, number) in [
                ("sda/sda1", "8:1"),
                ("sda/sda2", "8:2"),
                ("sdb/sdb1", "8:17"),
                ("sdc/sdc1", "8:33"),
                ("sdc/sdc2", "8:34"),
            ] {
                fake.device(name, number);
                fake.write(&format!("sys/devices/{name}/partition"), &name[name.len() - 1..]);
            }
            fake.device("dm-0", "253:0");
            fake.write("sys/devices/dm-0/dm/name", "system-root\n");
            fake.device("md0", "9:0");
            fake.made_of("dm-0", "sda/sda2");
            fake.made_of("md0", "sdb/sdb1");
            fake.write(
                "proc/self/mountinfo",
                "1 0 253:0 / / rw - ext4 /dev/mapper/system-root rw\n\
                 2 1 8:33 / /mnt/my\\040data rw,relatime shared:1 - xfs /dev/sdc1 rw\n\
                 3 1 0:21 / /proc rw - proc proc rw\n",
            );
            fake.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sdc2 partition 8 0 -2\n");
            fs::create_dir_all(fake.path("dev")).expect("made");
            let swap = (CWD, fake.path("dev/sdc2"), FileType::BlockDevice, Mode::RUSR, makedev(8, 34));
            mknodat(swap.0, swap.1, swap.2, swap.3, swap.4).expect("this test needs root");
            fake
        }

        fn path(&self, relative: &str) -> std::path::PathBuf {
            self.root.path().join(relative)
        }

        fn write(&self, relative: &str, text: &str) {
            let path = self.path(relative);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }

        fn device(&self, name: &str, number: &str) {
            self.write(&format!("sys/devices/{name}/dev"), &format!("{number}\n"));
            fs::create_dir_all(self.path("sys/dev/block")).expect("made");
            symlink(self.path(&format!("sys/devices/{name}")), self.path(&format!("sys/dev/block/{number}")))
                .expect("linked");
        }

        fn made_of(&self, upper: &str, lower: &str) {
            for (from, kind, to) in [(lower, "holders", upper), (upper, "slaves", lower)] {
                let folder = self.path(&format!("sys/devices/{from}/{kind}"));
                fs::create_dir_all(&folder).expect("made");
                let target = self.path(&format!("sys/devices/{to}"));
                symlink(&target, folder.join(target.file_name().expect("a name"))).expect("linked");
            }
        }

        fn refusal(&self, major: u32, minor: u32) -> Option<(Code, String)> {
            let device = DeviceNumber(makedev(major, minor));
            let refused = require_unused(&Host::at(self.root.path()), Path::new("/dev/x"), device).err()?;
            Some((refused.code, refused.reason))
        }
    }

    #[test]
    fn every_use_is_refused_by_name() {
        let host = Fake::new();
        let hosts =
            |name: &str| Some((Code::DeviceIsHosts, format!("this host's root file system lies on {name}")));
        assert_eq!(host.refusal(8, 0), hosts("sda"), "the disk under the volume under the root");
        assert_eq!(host.refusal(8, 1), hosts("sda"), "a partition of that disk");
        assert_eq!(host.refusal(253, 0), hosts("system-root"), "the volume itself");
        let held = Some((Code::DeviceHeld, "sdb1 is held by md0".to_owned()));
        assert_eq!((host.refusal(8, 16), host.refusal(8, 17)), (held.clone(), held));
        let mounted = Some((Code::DeviceMounted, "sdc1 is mounted at /mnt/my data".to_owned()));
        assert_eq!((host.refusal(8, 32), host.refusal(8, 33)), (mounted.clone(), mounted));
        assert_eq!(host.refusal(8, 34), Some((Code::DeviceMounted, "sdc2 is swap space".to_owned())));
        assert_eq!(host.refusal(8, 48), None, "an unused disk");
    }

    #[test]
    fn only_what_is_mounted_for_writing_may_change() {
        let fake = Fake::new();
        let mounted =
            |minor| mounted_for_writing(&Host::at(fake.root.path()), DeviceNumber(makedev(8, minor)));
        let at = Some("sdc1 is mounted at /mnt/my data for writing".to_owned());
        assert_eq!((mounted(32), mounted(33), mounted(48)), (at.clone(), at, None));
        for options in ["ro,relatime shared:1 - xfs /dev/sdc1 rw", "rw shared:1 - xfs /dev/sdc1 ro"] {
            fake.write("proc/self/mountinfo", &format!("2 1 8:33 / /mnt/my\\040data {options}\n"));
            assert_eq!(mounted(32), None, "{options}");
        }
    }

    #[test]
    fn disks_are_told_apart_by_their_world_wide_name() {
        let fake = Fake::new();
        fake.write("sys/devices/sdd/device/wwid", "naa.6000c29000000001\n");
        fake.write("sys/devices/sda/serial", "BOOT01");
        let serial = |minor| Host::at(fake.root.path()).serial(DeviceNumber(makedev(8, minor)));
        assert_eq!(serial(48).as_deref(), Some("naa.6000c29000000001"));
        assert_eq!(serial(1).as_deref(), Some("BOOT01-part1"));
        assert_eq!(serial(16), None);
    }
}
