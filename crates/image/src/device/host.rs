//! What this host says about its block devices, in `/sys` and `/proc`.
//!
//! **Invariant**: nothing here opens a device or changes anything; what the host does not say is absent, not an
//! error.

use rustix::fs::{FileType, major, makedev, minor};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeviceNumber(pub(crate) u64);

impl DeviceNumber {
    /// Number of the block device at a path; `None` where something else lies there.
    pub(crate) fn of_path(path: &Path) -> io::Result<Option<Self>> {
        let stat = rustix::fs::stat(path)?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
        Ok(is_device.then_some(Self(stat.st_rdev)))
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self(makedev(major.parse().ok()?, minor.parse().ok()?)))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", major(self.0), minor(self.0))
    }
}

/// What a loop device is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoopBacking {
    /// The file.
    pub(crate) file: PathBuf,
    /// Whether it is all of the file, from its start.
    pub(crate) is_whole: bool,
}

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device it lies on, as far as its file system tells.
    pub(crate) number: Option<DeviceNumber>,
    /// Device named when it was mounted: of a file system of several devices, one.
    pub(crate) source: Option<DeviceNumber>,
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Whether it can be written through this mount.
    pub(crate) is_writable: bool,
}

/// Where the host describes itself; elsewhere in tests.
#[derive(Debug)]
pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    pub(crate) fn this() -> Self {
        Self::at(Path::new("/"))
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn folder(&self, device: DeviceNumber) -> PathBuf {
        let link = self.root.join("sys/dev/block").join(device.to_string());
        fs::canonicalize(&link).unwrap_or(link)
    }

    /// The kernel's name: `sda1`; for a device-mapper device the name it was given.
    pub(crate) fn name(&self, device: DeviceNumber) -> String {
        let folder = self.folder(device);
        read_line(&folder.join("dm/name")).unwrap_or_else(|| match folder.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => device.to_string(),
        })
    }

    /// Its partitions.
    pub(crate) fn partitions(&self, device: DeviceNumber) -> Vec<DeviceNumber> {
        let folders = read_names(&self.folder(device));
        folders
            .into_iter()
            .filter(|folder| folder.join("partition").exists())
            .filter_map(|folder| read_number(&folder))
            .collect()
    }

    /// The disk that it is a partition of.
    pub(crate) fn disk_of_partition(&self, device: DeviceNumber) -> Option<DeviceNumber> {
        let folder = self.folder(device);
        if folder.join("partition").exists() { read_number(folder.parent()?) } else { None }
    }

    /// Devices made of it: volumes, arrays, crypt devices.
    pub(crate) fn holders(&self, device: DeviceNumber) -> Vec<DeviceNumber> {
        self.linked(device, "holders")
    }

    /// Devices and disks that it is made of or lies on, itself included, down to the last.
    pub(crate) fn foundations(&self, device: DeviceNumber) -> BTreeSet<DeviceNumber> {
        let mut found = BTreeSet::new();
        let mut open = vec![device];
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(self.linked(next, "slaves"));
                open.extend(self.disk_of_partition(next));
            }
        }
        found
    }

    fn linked(&self, device: DeviceNumber, kind: &str) -> Vec<DeviceNumber> {
        read_names(&self.folder(device).join(kind)).iter().filter_map(|folder| read_number(folder)).collect()
    }

    /// The file that it is a loop device over.
    pub(crate) fn loop_backing(&self, device: DeviceNumber) -> Option<LoopBacking> {
        let folder = self.folder(device).join("loop");
        let file = read_line(&folder.join("backing_file"))?.into();
        let is_zero = |name| read_line(&folder.join(name)).as_deref() == Some("0");
        Some(LoopBacking { file, is_whole: is_zero("offset") && is_zero("sizelimit") })
    }

    /// World-wide name, else serial number, of the disk; a partition's is its disk's with its own number.
    pub(crate) fn serial(&self, device: DeviceNumber) -> Option<String> {
        let folder = self.folder(device);
        if let Some(partition) = read_line(&folder.join("partition")) {
            let disk = self.serial(self.disk_of_partition(device)?)?;
            return Some(format!("{disk}-part{partition}"));
        }
        ["wwid", "device/wwid", "dm/uuid", "serial", "device/serial"]
            .iter()
            .find_map(|file| read_line(&folder.join(file)))
    }

    /// Everything mounted in this mount namespace.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let text = fs::read_to_string(self.root.join("proc/self/mountinfo")).unwrap_or_default();
        text.lines().filter_map(|line| self.parse_mount(line)).collect()
    }

    /// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS…] - TYPE SOURCE OPTIONS`, see proc(5).
    fn parse_mount(&self, line: &str) -> Option<Mount> {
        let (about, rest) = line.split_once(" - ")?;
        let mut fields = about.split(' ').skip(2);
        let number = fields.next().and_then(DeviceNumber::parse);
        let point = PathBuf::from(unescape(fields.nth(1)?));
        let is_rw =
            |options: Option<&str>| options.is_none_or(|list| list.split(',').any(|word| word == "rw"));
        let is_writable = is_rw(fields.next()) && is_rw(rest.split(' ').nth(2));
        let source = rest.split(' ').nth(1).and_then(|source| self.device_at(source));
        Some(Mount { number, source, point, is_writable })
    }

    /// Block devices in use as swap.
    pub(crate) fn swaps(&self) -> Vec<DeviceNumber> {
        let text = fs::read_to_string(self.root.join("proc/swaps")).unwrap_or_default();
        let sources = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        sources.filter_map(|source| self.device_at(source)).collect()
    }

    fn device_at(&self, escaped: &str) -> Option<DeviceNumber> {
        let path = unescape(escaped);
        let relative = path.strip_prefix('/')?;
        DeviceNumber::of_path(&self.root.join(relative)).ok().flatten()
    }
}

/// Undoes the octal escapes of spaces, tabs, newlines and backslashes.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

fn read_names(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn read_number(folder: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(folder.join("dev")).ok()?)
}

fn read_line(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
