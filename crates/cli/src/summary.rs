//! What a pass and a plan have to say: the fields of `--json`, and the same for people.

use crate::report::Summary;
use failback_pass::{Outcome, Progress, Stage, limiting};
use failback_service::report::printable;
use failback_service::size::{counted, grouped, human};
use serde::{Serialize, Serializer};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// A pass, finished or not; the counters say how far it came.
#[derive(Serialize)]
pub(crate) struct PassSummary {
    source: String,
    target: String,
    strategy: Option<&'static str>,
    virtual_size_bytes: u64,
    block_size_bytes: u64,
    blocks_total: u64,
    blocks_differing: u64,
    blocks_repaired: u64,
    bytes_read_source: u64,
    bytes_read_target: Option<u64>,
    bytes_read_seeds: Option<u64>,
    bytes_to_target: u64,
    bytes_to_source: u64,
    bytes_written: Option<u64>,
    pages_shipped: u64,
    zero_bytes: Option<u64>,
    seed_bytes: Option<u64>,
    verified_bytes: Option<u64>,
    /// Bytes of the source that are not holes: what a full copy would ship.
    full_copy_bytes: u64,
    egress_saved_bytes: u64,
    root: Option<String>,
    verified: bool,
    elapsed_seconds: f64,
    seconds_per_stage: StageSeconds,
    limiting_stage: Option<&'static str>,
    /// With --journal: the state that the pass brought, and the folder that leads back from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    #[serde(skip)]
    finished: bool,
}

/// Seconds of each stage, in the order of the data path.
pub(crate) struct StageSeconds([Duration; Stage::ALL.len()]);

impl StageSeconds {
    pub(crate) fn of(progress: &Progress) -> Self {
        Self(Stage::ALL.map(|stage| progress.times.get(stage)))
    }
}

impl Serialize for StageSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = |stage: Stage| (stage.as_str(), self.0[stage as usize].as_secs_f64());
        serializer.collect_map(Stage::ALL.into_iter().map(seconds))
    }
}

/// What is known of a pass before it starts.
pub(crate) struct Facts {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) strategy: Option<&'static str>,
    pub(crate) virtual_size_bytes: u64,
    pub(crate) block_size_bytes: u64,
    pub(crate) full_copy_bytes: u64,
    pub(crate) threads: usize,
    /// Whether what the target's end did was counted here; a remote one does not tell.
    pub(crate) knows_target: bool,
}

impl PassSummary {
    /// Of a pass that never started: the same fields, all saying so.
    pub(crate) fn not_started(source: &OsStr, target: &OsStr) -> Self {
        let facts = Facts {
            source: source.display().to_string(),
            target: target.display().to_string(),
            strategy: None,
            virtual_size_bytes: 0,
            block_size_bytes: 0,
            full_copy_bytes: 0,
            threads: 1,
            knows_target: true,
        };
        Self::new(facts, None, &Progress::default(), Duration::ZERO)
    }

    /// From the counters, whether the pass finished (`outcome`) or not.
    pub(crate) fn new(
        facts: Facts,
        outcome: Option<&Outcome>,
        progress: &Progress,
        elapsed: Duration,
    ) -> Self {
        let get = Progress::get;
        let of_target = |counter| facts.knows_target.then(|| get(counter));
        let elapsed = outcome.map_or(elapsed, |outcome| outcome.elapsed);
        let slowest =
            limiting(|stage| progress.times.get(stage), elapsed, facts.threads).map(|(stage, _)| stage);
        // A pass may travel less than the source: an excess of zeros stays away.
        let length_bytes = outcome.map_or(facts.virtual_size_bytes, |outcome| outcome.virtual_size_bytes);
        let bytes_to_target = get(&progress.bytes_to_target);
        Self {
            source: facts.source,
            target: facts.target,
            strategy: facts.strategy,
            virtual_size_bytes: length_bytes,
            block_size_bytes: facts.block_size_bytes,
            blocks_total: length_bytes.div_ceil(facts.block_size_bytes.max(1)),
            blocks_differing: get(&progress.blocks_differing),
            blocks_repaired: get(&progress.blocks_repaired),
            bytes_read_source: get(&progress.bytes_read_source),
            bytes_read_target: of_target(&progress.bytes_read_target),
            bytes_read_seeds: of_target(&progress.bytes_read_seeds),
            bytes_to_target,
            bytes_to_source: get(&progress.bytes_to_source),
            bytes_written: of_target(&progress.bytes_written),
            pages_shipped: get(&progress.pages_shipped),
            zero_bytes: of_target(&progress.zero_bytes),
            seed_bytes: of_target(&progress.seed_bytes),
            verified_bytes: of_target(&progress.verified_bytes),
            full_copy_bytes: facts.full_copy_bytes,
            egress_saved_bytes: facts.full_copy_bytes.saturating_sub(bytes_to_target),
            root: outcome.map(|outcome| outcome.root.to_string()),
            verified: outcome.is_some_and(|outcome| outcome.verified),
            elapsed_seconds: elapsed.as_secs_f64(),
            seconds_per_stage: StageSeconds::of(progress),
            limiting_stage: slowest.map(Stage::as_str),
            state: None,
            journal: None,
            finished: outcome.is_some(),
        }
    }

    /// With the state that it became in a journal.
    pub(crate) fn with_point(self, journal: &Path, state: u64) -> Self {
        Self { state: Some(state), journal: Some(journal.display().to_string()), ..self }
    }
}

impl Summary for PassSummary {
    fn text(&self) -> String {
        if !self.finished {
            return String::new();
        }
        let strategy = self.strategy.unwrap_or("no strategy");
        table(&format!("{} -> {} ({strategy})", self.source, self.target), &self.rows())
    }

    fn has_written(&self) -> bool {
        self.bytes_written.is_some_and(|bytes| bytes > 0)
    }
}

impl PassSummary {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let read = human(self.bytes_read_source);
        let read_target = self
            .bytes_read_target
            .map_or_else(String::new, |bytes| format!(", {} of the target", human(bytes)));
        let pages = counted(self.pages_shipped, "page");
        let (home, back) = (human(self.bytes_to_target), human(self.bytes_to_source));
        let (saved, full) = (human(self.egress_saved_bytes), human(self.full_copy_bytes));
        let verified = match self.verified {
            true => "every block on arrival, and all of the target read back from its medium",
            false => "every block on arrival",
        };
        let limiting = self.limiting_stage.map_or_else(String::new, |stage| format!(", limited by {stage}"));
        let mut rows = vec![
            ("read", format!("{read} of the source{read_target}")),
            (
                "differed",
                format!("{} of {}", grouped(self.blocks_differing), counted(self.blocks_total, "block")),
            ),
            ("shipped", format!("{pages}; {home} to the target, {back} to the source")),
            ("saved", format!("{saved} of egress against a full copy of {full}")),
        ];
        if let (Some(written), Some(zeros)) = (self.bytes_written, self.zero_bytes) {
            rows.push(("written", format!("{}, {} of it zeros", human(written), human(zeros))));
        }
        if let (Some(seeds @ 1..), Some(read)) = (self.seed_bytes, self.bytes_read_seeds) {
            rows.push(("seeds", format!("gave {}, {} read to find it", human(seeds), human(read))));
        }
        if self.blocks_repaired > 0 {
            rows.push(("repaired", format!("{}, sent again whole", counted(self.blocks_repaired, "block"))));
        }
        rows.push(("verified", verified.into()));
        rows.push(("root", self.root.clone().unwrap_or_default()));
        if let (Some(state), Some(journal)) = (self.state, &self.journal) {
            let back = format!(
                "state {state}; 'failback journal undo {journal} {}' brings the original back",
                self.target
            );
            rows.push(("kept", back));
        }
        rows.push(("elapsed", format!("{:.1} s{limiting}", self.elapsed_seconds)));
        rows
    }
}

/// A headline and named rows below it.
pub(crate) fn table(headline: &str, rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let rows: String =
        rows.iter().map(|(name, value)| format!("  {name:width$}  {}\n", printable(value))).collect();
    format!("{}\n{rows}", printable(headline))
}
