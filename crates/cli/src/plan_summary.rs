//! A plan, printed instead of carried out.

use crate::args::NewImageArgs;
use crate::job::Job;
use crate::pace::clock;
use crate::report::Summary;
use crate::summary::table;
use crate::transfer::create_options;
use failback_image::FormatName;
use failback_pass::{ASSUMED_READ_BYTES_PER_SECOND, ASSUMED_WRITE_BYTES_PER_SECOND, End, Plan};
use failback_service::size::{counted, human};
use serde::Serialize;
use std::ffi::OsStr;
use std::time::Duration;

/// The fields of `sync --dry-run --json`.
#[derive(Serialize)]
pub(crate) struct PlanSummary {
    source: String,
    target: String,
    strategy: &'static str,
    virtual_size_bytes: u64,
    target_size_bytes: u64,
    block_size_bytes: u64,
    blocks_total: u64,
    source_disk: Disk,
    target_disk: Option<Disk>,
    create: Option<Create>,
    read_source_bytes: u64,
    read_target_bytes: u64,
    read_seeds_bytes: u64,
    read_verify_bytes: u64,
    ship_at_most_bytes: u64,
    ship_estimate_bytes: Option<u64>,
    sampled_blocks: u64,
    seconds_estimate: f64,
    assumed_read_bytes_per_second: u64,
    assumed_write_bytes_per_second: u64,
}

/// One end.
#[derive(Serialize)]
struct Disk {
    format: &'static str,
    uuid: Option<String>,
    content_id: Option<String>,
    disk_id: Option<String>,
    virtual_size_bytes: u64,
    sector_size_bytes: u64,
    provisioning: &'static str,
    /// No end has a record of its state yet: it is found by scanning.
    generation: Option<u64>,
    root: Option<String>,
}

/// What a target that does not exist will be.
#[derive(Serialize)]
struct Create {
    format: &'static str,
    provisioning: &'static str,
    adapter_type: Option<&'static str>,
}

impl Disk {
    fn of(end: &End) -> Self {
        Self {
            format: end.identity.format.as_str(),
            uuid: end.identity.uuid.clone(),
            content_id: end.identity.content_id.map(|id| format!("{id:08x}")),
            disk_id: end.disk_id.clone(),
            virtual_size_bytes: end.geometry.length_bytes,
            sector_size_bytes: end.geometry.sector_size.bytes(),
            provisioning: end.provisioning.as_str(),
            generation: None,
            root: None,
        }
    }

    fn text(&self) -> String {
        let size = format!("{} ({} bytes)", human(self.virtual_size_bytes), self.virtual_size_bytes);
        let mut text =
            format!("{}, {size}, sectors of {}, {}", self.format, self.sector_size_bytes, self.provisioning);
        let ids = [("uuid", &self.uuid), ("content id", &self.content_id), ("disk id", &self.disk_id)];
        for (name, id) in ids {
            text += &id.as_ref().map_or_else(String::new, |id| format!(", {name} {id}"));
        }
        text
    }
}

impl Create {
    fn of(job: &Job, args: &NewImageArgs) -> Self {
        let options = create_options(args, 0);
        let format = job.target.format_by_name();
        let is_vmdk = format == Some(FormatName::Vmdk);
        Self {
            format: match format {
                Some(FormatName::Vmdk) => options.vmdk_type.as_str(),
                Some(FormatName::Vhd) => "vhd-fixed",
                Some(other) => other.prefix(),
                None => "unknown",
            },
            provisioning: options.provisioning().as_str(),
            adapter_type: is_vmdk.then(|| options.adapter_type.as_str()),
        }
    }

    fn text(&self) -> String {
        let adapter = self.adapter_type.map_or_else(String::new, |adapter| format!(", adapter {adapter}"));
        format!("is created: {}, {}{adapter}", self.format, self.provisioning)
    }
}

impl PlanSummary {
    pub(crate) fn new(target: &OsStr, plan: &Plan, job: &Job, create: &NewImageArgs) -> Self {
        Self {
            source: plan.source.name.display().to_string(),
            target: target.display().to_string(),
            strategy: plan.strategy,
            virtual_size_bytes: plan.virtual_size_bytes,
            target_size_bytes: plan.target_size_bytes,
            block_size_bytes: plan.block_size.bytes(),
            blocks_total: plan.blocks_total,
            source_disk: Disk::of(&plan.source),
            target_disk: plan.target.as_ref().map(Disk::of),
            create: plan.target.is_none().then(|| Create::of(job, create)),
            read_source_bytes: plan.read_source_bytes,
            read_target_bytes: plan.read_target_bytes,
            read_seeds_bytes: plan.read_seeds_bytes,
            read_verify_bytes: plan.read_verify_bytes,
            ship_at_most_bytes: plan.ship_at_most_bytes,
            ship_estimate_bytes: plan.ship_estimate.map(|estimate| estimate.bytes),
            sampled_blocks: plan.ship_estimate.map_or(0, |estimate| estimate.sampled_blocks),
            seconds_estimate: plan.seconds_estimate,
            assumed_read_bytes_per_second: ASSUMED_READ_BYTES_PER_SECOND,
            assumed_write_bytes_per_second: ASSUMED_WRITE_BYTES_PER_SECOND,
        }
    }

    fn reads(&self) -> String {
        let (source, target) = (human(self.read_source_bytes), human(self.read_target_bytes));
        let mut text = format!("{source} of the source, {target} of the target, and what differs once more");
        for (bytes, what) in
            [(self.read_seeds_bytes, "of the seeds"), (self.read_verify_bytes, "of the target to verify it")]
        {
            if bytes > 0 {
                text += &format!("; {} {what}", human(bytes));
            }
        }
        text
    }

    fn ships(&self) -> String {
        let at_most = format!("{} at most", human(self.ship_at_most_bytes));
        match self.ship_estimate_bytes {
            Some(bytes) => {
                let sampled = counted(self.sampled_blocks, "sampled block");
                format!("about {} by {sampled}, {at_most}", human(bytes))
            }
            None => at_most,
        }
    }
}

impl Summary for PlanSummary {
    fn text(&self) -> String {
        let compared = format!("{} ({} bytes)", human(self.virtual_size_bytes), self.virtual_size_bytes);
        let blocks = format!("{} of {}", counted(self.blocks_total, "block"), human(self.block_size_bytes));
        let target = self.target_disk.as_ref().map(Disk::text);
        let created = self.create.as_ref().map(Create::text).unwrap_or_default();
        let mut rows = vec![
            ("source", self.source_disk.text()),
            ("target", target.unwrap_or(created)),
            ("known", "no generation and no root at either end: what is there is scanned".into()),
            ("compares", format!("{compared} in {blocks}")),
            ("will read", self.reads()),
            ("will ship", self.ships()),
            (
                "will take",
                format!(
                    "about {} where disks read {}/s and write {}/s",
                    clock(Duration::from_secs_f64(self.seconds_estimate.ceil())),
                    human(self.assumed_read_bytes_per_second),
                    human(self.assumed_write_bytes_per_second)
                ),
            ),
        ];
        if self.target_size_bytes != self.virtual_size_bytes {
            let size = format!("{} ({} bytes)", human(self.target_size_bytes), self.target_size_bytes);
            rows.insert(4, ("leaves", format!("a target of {size}")));
        }
        table(&format!("plan: {} -> {} ({})", self.source, self.target, self.strategy), &rows)
    }
}
