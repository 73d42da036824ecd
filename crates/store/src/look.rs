//! What an image looks like from outside, line by line, and in words what is different since.
//!
//! **Invariant**: what the operating system may change by itself between two starts (the number of a file system or of a
//! device) and the job are no difference: only what a writer does is.

use failback_blockio::{DiskError, Operation};
use failback_image::{Image, ImageFormat};
use failback_model::Epoch;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Differences that are named one by one.
const NAMED_MAX: usize = 4;

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time as people read it, in UTC.
pub(crate) fn time_text(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| format!("{unix_ms} ms after 1970"), |time| format!("{time:.0}"))
}

/// An image as a job has it: length and id, then a line for each file or device.
pub(crate) fn look_at(image: &dyn Image, epoch: Epoch) -> Result<String, DiskError> {
    let identity = image.identity();
    let id = identity.uuid.as_deref().unwrap_or("-");
    let mut text = format!("disk {} {id}\n", image.geometry().length_bytes);
    for path in &identity.files {
        let stat = match fs::metadata(path) {
            Ok(stat) => stat,
            // An image without files, as in memory, has only its identity.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DiskError::io(Operation::Open, path, None, error)),
        };
        // A device has no times of its own, those of its node say nothing about its bytes; its number may be another
        // after it was attached anew, its id not.
        let line = if stat.file_type().is_block_device() {
            let number = if identity.uuid.is_some() { 0 } else { stat.rdev() };
            writeln!(text, "device {number} {epoch} {}", name_of(path))
        } else {
            let times = [(stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec())];
            let [written, changed] = times.map(|(seconds, nanos)| format!("{seconds}.{nanos:09}"));
            let (device, inode, length) = (stat.dev(), stat.ino(), stat.size());
            writeln!(text, "file {device} {inode} {length} {written} {changed} {}", name_of(path))
        };
        line.expect("text grows");
    }
    if let Some(version) = &identity.version {
        // An export has no version of its own, no more than a device: another job may find other bytes there.
        let job = if identity.format == ImageFormat::Nbd { epoch.to_string() } else { "-".into() };
        writeln!(text, "version {job} {version}").expect("text grows");
    }
    Ok(text)
}

/// One line of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line<'a> {
    Disk { length: &'a str, id: &'a str },
    Device { name: &'a str },
    File { inode: &'a str, length: &'a str, written: &'a str, changed: &'a str, name: &'a str },
}

/// What differs between two looks at an image, of which the first may have been cut. Empty: nothing that a writer does.
pub(crate) fn differences(held: &str, now: &str) -> Vec<String> {
    let (mut found, mut is_explained) = (Vec::new(), false);
    for (before, after) in held.lines().zip(now.lines()) {
        match (parse(before), parse(after)) {
            (Some(old), Some(new)) => {
                found.extend(difference(&old, &new));
                is_explained |= before != after;
            }
            _ if before != after => found.push("it does not look as it did".into()),
            _ => {}
        }
    }
    let (count_before, count_now) = (held.lines().count(), now.lines().count());
    if found.is_empty() && (count_now < count_before || !is_explained) {
        found.push(format!("its {} files are not those that were left", count_now.saturating_sub(1)));
    }
    if found.len() > NAMED_MAX {
        let others = found.len() - NAMED_MAX;
        found.truncate(NAMED_MAX);
        found.push(format!("and {others} more files"));
    }
    found
}

fn parse(line: &str) -> Option<Line<'_>> {
    let (kind, rest) = line.split_once(' ')?;
    let mut fields = rest.splitn(if kind == "file" { 6 } else { 3 }, ' ');
    let mut next = || fields.next();
    match kind {
        "disk" => Some(Line::Disk { length: next()?, id: next()? }),
        "device" => {
            let (_number, _job) = (next()?, next()?);
            Some(Line::Device { name: next()? })
        }
        "file" => {
            let _file_system = next()?;
            let (inode, length, written, changed) = (next()?, next()?, next()?, next()?);
            Some(Line::File { inode, length, written, changed, name: next()? })
        }
        _ => None,
    }
}

fn difference(old: &Line<'_>, new: &Line<'_>) -> Option<String> {
    match (old, new) {
        (Line::Disk { length: was, .. }, Line::Disk { length, .. }) if was != length => {
            Some(format!("the disk was resized: it has {length} bytes, had {was}"))
        }
        (Line::Disk { id: was, .. }, Line::Disk { id, .. }) if was != id => {
            Some(format!("another disk is in its place: its id is {id}, was {was}"))
        }
        (Line::Disk { .. }, Line::Disk { .. }) | (Line::Device { .. }, Line::Device { .. }) => None,
        (
            Line::File {
                inode: old_inode,
                length: old_length,
                written: old_written,
                changed: old_changed,
                ..
            },
            Line::File { inode, length, written, changed, name },
        ) => {
            let at = seconds_text(written);
            if inode != old_inode {
                Some(format!("another file is in the place of {name}, last written to at {at}"))
            } else if length != old_length {
                Some(format!("{name} has {length} bytes, had {old_length}, and was written to at {at}"))
            } else if written != old_written {
                Some(format!("{name} was written to at {at}"))
            } else if changed != old_changed {
                let at = seconds_text(changed);
                Some(format!("{name} was changed at {at} (owner, mode, links, or its times were set back)"))
            } else {
                None
            }
        }
        _ => Some("it is of another kind: file or device".into()),
    }
}

/// `SECONDS.NANOS` as people read it.
fn seconds_text(stamp: &str) -> String {
    let seconds = stamp.split_once('.').and_then(|(seconds, _)| seconds.parse::<i64>().ok());
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| stamp.to_owned(), |time| time.to_string())
}

/// A file's own name, without what would break a line.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).display().to_string().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "disk 4096 -\nfile 1 2 4096 1763000000.5 1763000000.5 a disk.raw\n";

    #[test]
    fn what_a_writer_does_is_named() {
        let cases = [
            (
                "disk 8192 -\nfile 1 2 8192 1763000060.0 1763000060.0 a disk.raw\n",
                "resized: it has 8192 bytes, had 4096",
            ),
            (
                "disk 4096 -\nfile 1 2 4096 1763000060.0 1763000060.0 a disk.raw\n",
                "a disk.raw was written to at 2025-11-13T02:14:20Z",
            ),
            (
                "disk 4096 -\nfile 1 3 4096 1763000000.5 1763000060.0 a disk.raw\n",
                "another file is in the place of a disk.raw",
            ),
            (
                "disk 4096 -\nfile 1 2 4096 1763000000.5 1763000060.0 a disk.raw\n",
                "a disk.raw was changed at",
            ),
            ("disk 4096 x\nfile 1 2 4096 1763000000.5 1763000000.5 a disk.raw\n", "its id is x, was -"),
            ("disk 4096 -\ndevice 7 3 sdb\n", "of another kind"),
            ("disk 4096 -\n", "are not those that were left"),
            ("something else", "does not look as it did"),
        ];
        for (now, words) in cases {
            let found = differences(LEFT, now);
            assert!(found.iter().any(|said| said.contains(words)), "{found:?} for {now}");
        }
    }

    #[test]
    fn what_a_restart_changes_is_no_difference() {
        let now = "disk 4096 -\nfile 9 2 4096 1763000000.5 1763000000.5 a disk.raw\n";
        assert_eq!(differences(LEFT, now), Vec::<String>::new());
        let left = "disk 4096 x\ndevice 0 3 sdb\n";
        assert_eq!(differences(left, "disk 4096 x\ndevice 0 4 sdc\n"), Vec::<String>::new());
    }

    #[test]
    fn of_many_files_some_are_named_and_those_that_were_not_kept_are_told_apart() {
        let file = |inode: u64, stamp: u64| format!("file 1 {inode} 1 {stamp}.0 {stamp}.0 f{inode}\n");
        let all = |stamp| (1..20).map(|inode| file(inode, stamp)).collect::<String>();
        let (before, now) = (format!("disk 1 -\n{}", all(5)), format!("disk 1 -\n{}", all(6)));
        let found = differences(&before, &now);
        assert_eq!((found.len(), found[4].as_str()), (5, "and 15 more files"));
        let cut: String = before.lines().take(3).map(|line| format!("{line}\n")).collect();
        let last = before.replace(&file(19, 5), &file(19, 6));
        assert_eq!(differences(&cut, &last), ["its 19 files are not those that were left"]);
    }
}
