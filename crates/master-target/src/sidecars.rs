//! A sidecar beside each disk: what whoever rebuilds the site has to know. FORMATS.md, "Sidecar".
//!
//! **Invariant**: it is a file of its own, written whole; nothing of a disk depends on it, and one that cannot be written
//! stops nothing.

use crate::config::{Disk, Machine};
use failback_blockio::create_folder;
use failback_format::sidecar::{SIDECAR_SUFFIX, SIDECAR_VERSION, Sidecar, SidecarPoint};
use failback_image::{Access, ImageSpec};
use failback_model::{Finding, MachineId};
use failback_service::clock::unix_ms;
use failback_service::saved::{self, failed};
use failback_store::Point;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Writes those of all disks of a machine; what could not be written.
pub(crate) fn write_all(devices: &Path, machine: &Machine, phase: &str, points: &[Point]) -> Vec<Finding> {
    let written = machine.disk.iter().map(|disk| write(devices, machine, disk, phase, points));
    written.filter_map(Result::err).collect()
}

fn write(
    devices: &Path,
    machine: &Machine,
    disk: &Disk,
    phase: &str,
    points: &[Point],
) -> Result<(), Finding> {
    let spec = ImageSpec::parse(&disk.path);
    let Ok(image) = failback_image::open(&spec, Access::Read) else {
        // It is not made yet, or is gone: there is nothing to describe.
        return Ok(());
    };
    let identity = image.identity();
    let of_disk = |point: &Point| {
        let held = point.disks.iter().find(|held| held.disk == disk.id)?;
        Some(SidecarPoint {
            number: point.number,
            label: point.claim.label,
            source_unix_ms: point.claim.source_unix_ms,
            sealed_unix_ms: point.sealed_unix_ms,
            restored: point.restored,
            generation: held.generation.0,
            root: held.root,
            length_bytes: held.length_bytes,
        })
    };
    let sidecar = Sidecar {
        failback_sidecar: SIDECAR_VERSION,
        machine: machine.id.clone(),
        disk: disk.id.clone(),
        image: disk.path.clone(),
        format: identity.format.as_str().into(),
        uuid: identity.uuid,
        slot: disk.slot.clone(),
        provisioning: image.provisioning().as_str().into(),
        image_bytes: image.geometry().length_bytes,
        written_unix_ms: unix_ms(),
        phase: phase.into(),
        points: points.iter().filter_map(of_disk).collect(),
    };
    drop(image);
    let path = path_of(devices, &machine.id, disk)?;
    put(&path, sidecar.encode().as_bytes()).map_err(|error| failed("write", &path, error))
}

/// Where the sidecar of a disk lies: beside a file, and for a device below the folder `devices`.
pub(crate) fn path_of(devices: &Path, machine: &MachineId, disk: &Disk) -> Result<PathBuf, Finding> {
    let path = ImageSpec::parse(&disk.path).path;
    let is_device = fs::metadata(&path).is_ok_and(|stat| stat.file_type().is_block_device());
    match (is_device, path.file_name()) {
        (false, Some(name)) => {
            let mut name = OsString::from(name);
            name.push(SIDECAR_SUFFIX);
            Ok(path.with_file_name(name))
        }
        _ => {
            let folder = devices.join(machine.as_str());
            create_folder(&folder).map_err(|error| failed("create", &folder, error))?;
            Ok(folder.join(format!("{}.json", disk.id)))
        }
    }
}

fn put(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut draft = OsString::from(path);
    draft.push(".draft");
    saved::write(Path::new(&draft), contents)?;
    fs::rename(&draft, path)?;
    saved::sync_folder(path)
}
