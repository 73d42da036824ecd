//! What a pass would do and what speaks against it: all of it, before anything is written.

use crate::api::{Cancel, PassError, PassOptions, Target};
use crate::planned::{End, Plan};
use crate::predict::{Data, data_of, seconds, ship_at_most, ship_estimate};
use crate::wrong_disk::{Look, disk_id};
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_image::{Image, same_disk};
use failback_model::limits::UNIT_MIN_BYTES;
use failback_model::{ByteRange, Code, Finding, Layout, SectorSize, Severity, is_zero};
use std::sync::Arc;

/// Plans a pass without writing.
pub fn plan(
    source: &Arc<dyn Image>,
    target: &Target,
    options: &PassOptions,
    cancel: &Cancel,
) -> Result<Plan, PassError> {
    let existing = match target {
        Target::Existing(image) => Some(&**image),
        Target::New(_) => None,
    };
    let mut findings = warnings_of(&**source, existing);
    let planner = Planner { source: &**source, options, cancel };
    let length_bytes = match existing {
        Some(image) => planner.check_geometry(image, &mut findings)?,
        None => {
            // Files hold sectors of 512 bytes, whatever their format.
            findings.extend(sectors_differ(&**source, "a created image", sectors_of_new(target)));
            source.geometry().length_bytes
        }
    };
    let layout = planner.layout_of(length_bytes)?;
    let read_source = data_of(&**source, layout, cancel)?;
    let (read_target, look) = match existing {
        Some(image) => {
            let common = planner.layout_of(length_bytes.min(image.geometry().length_bytes))?;
            (data_of(image, layout, cancel)?, Look::at(&**source, image, common, cancel)?)
        }
        None => (Data::default(), Look { source_id: disk_id(&**source, layout)?, ..Look::default() }),
    };
    let Look { verdict, sample, source_id, target_id } = look;
    if let Some(image) = existing
        && same_disk(&source.identity(), &image.identity())
    {
        let evidence = format!("{} is, or holds, {}", source.name().display(), image.name().display());
        findings.push(Finding::error(Code::SameImage, evidence).about(image.name()));
    }
    findings.extend(existing.zip(verdict).map(|(image, evidence)| planner.wrong_disk(image, evidence)));
    if let Some(image) = existing {
        if same_disk(&source.identity(), &image.identity()) {
            let evidence = format!("{} is, or holds, {}", source.name().display(), image.name().display());
            findings.push(Finding::error(Code::SameImage, evidence).about(image.name()));
        }
        findings.extend(planner.cannot_hold(image, layout)?);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let read_seeds_bytes = planner.seeds_bytes()?;
    // What the target held keeps its allocation where it is thick, also where it becomes zero.
    let read_verify_bytes = match options.verify {
        true => (read_source.bytes + read_target.bytes).min(length_bytes),
        false => 0,
    };
    let ship_at_most_bytes = ship_at_most(layout, read_source, read_target);
    let estimate = ship_estimate(sample, read_source, read_target, options, ship_at_most_bytes);
    let written_bytes = estimate.map_or(ship_at_most_bytes, |estimate| estimate.bytes);
    let target_size_bytes = existing.map_or(0, |image| image.geometry().length_bytes).max(length_bytes);
    Ok(Plan {
        layout,
        virtual_size_bytes: length_bytes,
        block_size: options.block_size,
        blocks_total: layout.block_count(),
        strategy: if existing.is_some() { "original-location" } else { "alternate-location" },
        source: End::of(&**source, source_id),
        target: existing.map(|image| End::of(image, target_id)),
        target_size_bytes,
        read_source_bytes: read_source.read_bytes,
        read_target_bytes: read_target.read_bytes,
        read_seeds_bytes,
        read_verify_bytes,
        ship_at_most_bytes,
        ship_estimate: estimate,
        seconds_estimate: seconds(
            read_source,
            read_target,
            read_seeds_bytes,
            read_verify_bytes,
            written_bytes,
        ),
        findings,
    })
}

/// What either end wants known. Changes that are tracked matter only where they are made.
fn warnings_of(source: &dyn Image, target: Option<&dyn Image>) -> Vec<Finding> {
    let of_source = source.warnings().into_iter().filter(|finding| finding.code != Code::ChangeTracking);
    of_source.chain(target.into_iter().flat_map(Image::warnings)).collect()
}

struct Planner<'a> {
    source: &'a dyn Image,
    options: &'a PassOptions,
    cancel: &'a Cancel,
}

impl Planner<'_> {
    fn layout_of(&self, length_bytes: u64) -> Result<Layout, DiskError> {
        Layout::new(length_bytes, self.options.block_size).map_err(|error| {
            DiskError::new(Code::ImageSizeUnsupported, Operation::Open, self.source.name(), error.to_string())
        })
    }

    /// Compares lengths and sectors; the length of the bytes that travel.
    fn check_geometry(&self, target: &dyn Image, findings: &mut Vec<Finding>) -> Result<u64, PassError> {
        let (from, to) = (self.source.geometry(), target.geometry());
        let (name, path) = (self.source.name().display(), target.name().display());
        findings.extend(sectors_differ(self.source, &path.to_string(), to.sector_size));
        let (long, short) = (from.length_bytes, to.length_bytes);
        if long < short {
            let evidence =
                format!("{path} has {short} bytes, {name} {long}: the last {} stay untouched", short - long);
            findings.push(Finding::info(Code::TargetLonger, evidence).about(target.name()));
            return Ok(long);
        }
        if long == short {
            return Ok(long);
        }
        let can_grow = target.check_grow(long);
        if self.options.grow {
            findings.extend(can_grow.err().map(|error| error.to_finding()));
            return Ok(long);
        }
        if self.is_zero_between(ByteRange::new(short, long))? {
            let evidence = format!(
                "{name} has {long} bytes, {path} {short}: the last {} are zero and stay away",
                long - short
            );
            findings.push(Finding::warning(Code::ExcessTrimmed, evidence).about(target.name()));
            return Ok(short);
        }
        findings.push(too_small(self.source, target, can_grow));
        Ok(long)
    }

    /// Data that would fall where the target can hold none: found now, not in the middle of the pass.
    fn cannot_hold(&self, target: &dyn Image, layout: Layout) -> Result<Option<Finding>, PassError> {
        let whole = ByteRange::new(0, layout.length_bytes());
        for range in target.unwritable_ranges().into_iter().filter_map(|range| range.intersection(whole)) {
            if !self.is_zero_between(range)? {
                let evidence = format!(
                    "{} has no file for its bytes {} to {} (a ZERO extent), the source has data there",
                    target.name().display(),
                    range.start(),
                    range.end()
                );
                return Ok(Some(Finding::error(Code::ImageReadOnlyKind, evidence).about(target.name())));
            }
        }
        Ok(None)
    }

    fn wrong_disk(&self, target: &dyn Image, evidence: String) -> Finding {
        let severity = if self.options.accept_mismatch { Severity::Warning } else { Severity::Error };
        Finding { severity, ..Finding::error(Code::WrongDisk, evidence) }.about(target.name())
    }

    /// What indexing the seeds reads. A seed that cannot be cut is refused when it is indexed.
    fn seeds_bytes(&self) -> Result<u64, PassError> {
        let mut bytes = 0;
        for seed in &self.options.seeds {
            if let Ok(layout) = Layout::new(seed.geometry().length_bytes, self.options.block_size) {
                bytes += data_of(&**seed, layout, self.cancel)?.read_bytes;
            }
        }
        Ok(bytes)
    }

    fn is_zero_between(&self, range: ByteRange) -> Result<bool, PassError> {
        let mut buffer = vec![0; UNIT_MIN_BYTES as usize];
        let mut at = range.start();
        while at < range.end() {
            self.cancel.check()?;
            let Some(data) = self.source.next_data(at)?.and_then(|data| data.intersection(range)) else {
                return Ok(true);
            };
            at = data.start();
            let length = data.length_bytes().min(UNIT_MIN_BYTES) as usize;
            self.source.read_at(at, &mut buffer[..length])?;
            if !is_zero(&buffer[..length]) {
                return Ok(false);
            }
            at += length as u64;
        }
        Ok(true)
    }
}

/// Sectors of a target that was just made or will be.
fn sectors_of_new(target: &Target) -> SectorSize {
    match target {
        Target::Existing(image) | Target::New(Some(image)) => image.geometry().sector_size,
        Target::New(None) => SectorSize::B512,
    }
}

/// A guest that was installed on sectors of one size finds nothing on those of another.
fn sectors_differ(source: &dyn UnitSource, target: &str, of_target: SectorSize) -> Option<Finding> {
    let of_source = source.geometry().sector_size;
    let (name, ours, theirs) = (source.name().display(), of_source.bytes(), of_target.bytes());
    let evidence = format!("{name} has logical sectors of {ours} bytes, {target} of {theirs}");
    (of_source != of_target).then(|| Finding::error(Code::SectorSizeDiffers, evidence).about(source.name()))
}

/// Advises only what this target can do.
fn too_small(source: &dyn UnitSource, target: &dyn Image, can_grow: Result<(), DiskError>) -> Finding {
    let (long, short) = (source.geometry().length_bytes, target.geometry().length_bytes);
    let (name, path) = (source.name().display(), target.name().display());
    let evidence = format!("{name} has {long} bytes, {path} only {short}, and the excess is not zero");
    let remedy = match can_grow {
        Ok(()) => format!("--grow extends it to {long} bytes"),
        Err(error) if error.code == Code::TargetTooSmall => {
            format!("extend the device to {long} bytes where it is provided, then run the same command again")
        }
        Err(error) => format!("it cannot grow ({}); sync into a new image", error.reason),
    };
    Finding::error(Code::TargetTooSmall, evidence).with_remedy(remedy).about(target.name())
}
