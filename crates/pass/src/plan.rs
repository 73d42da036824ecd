//! What a pass would do and what speaks against it: all of it, before anything is written.

use crate::api::{PassError, PassOptions, Plan, Target};
use crate::wrong_disk::looks_like_another_disk;
use failback_blockio::{DiskError, Operation, UnitSource};
use failback_image::Image;
use failback_model::limits::UNIT_MIN_BYTES;
use failback_model::{ByteRange, Code, Finding, Layout, SectorSize, Severity, is_zero};
use std::sync::Arc;

/// Plans a pass without writing.
pub fn plan(source: &Arc<dyn Image>, target: &Target, options: &PassOptions) -> Result<Plan, PassError> {
    let source: Arc<dyn UnitSource> = Arc::clone(source) as _;
    plan_pass(&*source, target, options).map(|(plan, _)| plan)
}

/// The plan, and the layout of the bytes that travel.
pub(crate) fn plan_pass(
    source: &dyn UnitSource,
    target: &Target,
    options: &PassOptions,
) -> Result<(Plan, Layout), PassError> {
    let mut findings = Vec::new();
    let source_length = source.geometry().length_bytes;
    let existing = match target {
        Target::Existing(image) => Some(image),
        Target::New(created) => {
            // Files hold sectors of 512 bytes, whatever their format.
            let made = created.as_ref().map_or(SectorSize::B512, |image| image.geometry().sector_size);
            findings.extend(sectors_differ(source, "a created image", made));
            None
        }
    };
    let mut pass_length = source_length;
    if let Some(image) = existing {
        pass_length = check_geometry(source, &**image, options, &mut findings)?;
    }
    let layout = layout_of(source, pass_length, options)?;
    let read_source_bytes = data_bytes(source, layout)?;
    let mut read_target_bytes = 0;
    if let Some(image) = existing {
        read_target_bytes = data_bytes(&**image, layout)?;
        findings.extend(image.warnings());
        findings.extend(cannot_hold(source, &**image, layout)?);
        let common_bytes = pass_length.min(image.geometry().length_bytes);
        findings.extend(check_identity(
            source,
            &**image,
            layout_of(source, common_bytes, options)?,
            options,
        )?);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let target_length =
        existing.map_or(source_length, |image| image.geometry().length_bytes.max(pass_length));
    let plan = Plan {
        virtual_size_bytes: target_length,
        block_size: options.block_size,
        blocks_total: layout.block_count(),
        strategy: if existing.is_some() { "original-location" } else { "alternate-location" },
        read_source_bytes,
        read_target_bytes,
        ship_at_most_bytes: read_source_bytes,
        findings,
    };
    Ok((plan, layout))
}

fn layout_of(source: &dyn UnitSource, length_bytes: u64, options: &PassOptions) -> Result<Layout, DiskError> {
    Layout::new(length_bytes, options.block_size).map_err(|error| {
        DiskError::new(Code::ImageSizeUnsupported, Operation::Open, source.name(), error.to_string())
    })
}

/// Compares lengths and sectors; the length of the bytes that travel.
fn check_geometry(
    source: &dyn UnitSource,
    target: &dyn Image,
    options: &PassOptions,
    findings: &mut Vec<Finding>,
) -> Result<u64, DiskError> {
    let (from, to) = (source.geometry(), target.geometry());
    let (name, path) = (source.name().display(), target.name().display());
    findings.extend(sectors_differ(source, &path.to_string(), to.sector_size));
    let (long, short) = (from.length_bytes, to.length_bytes);
    if long < short {
        let evidence =
            format!("{path} has {short} bytes, {name} {long}: the last {} stay untouched", short - long);
        findings.push(Finding::info(Code::TargetLonger, evidence));
        return Ok(long);
    }
    if long == short || options.grow {
        return Ok(long);
    }
    if is_zero_between(source, ByteRange::new(short, long))? {
        let evidence = format!(
            "{name} has {long} bytes, {path} {short}: the last {} are zero and stay away",
            long - short
        );
        findings.push(Finding::warning(Code::ExcessTrimmed, evidence));
        return Ok(short);
    }
    let evidence = format!("{name} has {long} bytes, {path} only {short}, and the excess is not zero");
    let remedy = format!("--grow extends an image file; extend a device to {long} bytes first");
    findings.push(Finding::error(Code::TargetTooSmall, evidence).with_remedy(remedy));
    Ok(long)
}

/// A guest that was installed on sectors of one size finds nothing on those of another.
fn sectors_differ(source: &dyn UnitSource, target: &str, of_target: SectorSize) -> Option<Finding> {
    let of_source = source.geometry().sector_size;
    let (name, ours, theirs) = (source.name().display(), of_source.bytes(), of_target.bytes());
    let evidence = format!("{name} has logical sectors of {ours} bytes, {target} of {theirs}");
    (of_source != of_target).then(|| Finding::error(Code::SectorSizeDiffers, evidence))
}

/// Data that would fall where the target can hold none: found now, not in the middle of the pass.
fn cannot_hold(
    source: &dyn UnitSource,
    target: &dyn Image,
    layout: Layout,
) -> Result<Option<Finding>, DiskError> {
    let whole = ByteRange::new(0, layout.length_bytes());
    for range in target.unwritable_ranges().into_iter().filter_map(|range| range.intersection(whole)) {
        if !is_zero_between(source, range)? {
            let evidence = format!(
                "{} has no file for its bytes {} to {} (a ZERO extent), the source has data there",
                target.name().display(),
                range.start(),
                range.end()
            );
            return Ok(Some(Finding::error(Code::ImageReadOnlyKind, evidence)));
        }
    }
    Ok(None)
}

/// The wrong-disk guard.
fn check_identity(
    source: &dyn UnitSource,
    target: &dyn Image,
    layout: Layout,
    options: &PassOptions,
) -> Result<Option<Finding>, DiskError> {
    let Some(evidence) = looks_like_another_disk(source, target, layout)? else { return Ok(None) };
    let finding = Finding::error(Code::WrongDisk, evidence);
    let severity = if options.accept_mismatch { Severity::Warning } else { Severity::Error };
    Ok(Some(Finding { severity, ..finding }))
}

/// Bytes of the disk that are not holes.
fn data_bytes(source: &dyn UnitSource, layout: Layout) -> Result<u64, DiskError> {
    let whole = ByteRange::new(0, layout.length_bytes());
    let mut bytes = 0;
    let mut at = 0;
    while at < whole.end() {
        let Some(data) = source.next_data(at)? else { break };
        bytes += data.intersection(whole).map_or(0, ByteRange::length_bytes);
        at = data.end().max(at + 1);
    }
    Ok(bytes)
}

fn is_zero_between(source: &dyn UnitSource, range: ByteRange) -> Result<bool, DiskError> {
    let mut buffer = vec![0; UNIT_MIN_BYTES as usize];
    let mut at = range.start();
    while at < range.end() {
        let Some(data) = source.next_data(at)?.and_then(|data| data.intersection(range)) else {
            return Ok(true);
        };
        at = data.start();
        let length = data.length_bytes().min(UNIT_MIN_BYTES) as usize;
        source.read_at(at, &mut buffer[..length])?;
        if !is_zero(&buffer[..length]) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}
