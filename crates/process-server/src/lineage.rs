//! Which sealed state of a source its digests come down from, and what feeds have named since.
//!
//! A feed names what changed since a base: the last state that the target sealed. After a cycle that came to nothing the next one
//! starts from the same base, and its feed need not name what changed to and fro in between, although some of that was scanned
//! meanwhile. So everything that any feed named since the base stays doubted until the next seal.
//!
//! **Invariant**: outside of `named`, what the source's folder holds are the digests of the base. The lineage is removed, durably,
//! before the folder takes digests that do not come down from it.

use failback_model::limits::NAMED_RANGES_MAX;
use failback_model::{BlockRange, Digest, Finding, Generation, Layout};
use failback_service::saved;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A state of a source that the target sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Number of the job.
    pub epoch: u64,
    /// Its cycle.
    pub cycle: u64,
    /// Generation that the target gave it.
    pub generation: u64,
    /// Its root.
    pub root: String,
    /// Length of the pass's disk, bytes.
    pub pass_bytes: u64,
    /// Bytes of its blocks.
    pub block_bytes: u64,
    /// The source and the feed as the configuration named them: of another one it says nothing.
    pub named: String,
    /// Its snapshot in the cloud, where there is one.
    #[serde(default)]
    pub snapshot: Option<String>,
}

impl Base {
    /// Whether its digests are those of a disk that is cut like this.
    pub(crate) fn is_cut_as(&self, layout: Layout) -> bool {
        (self.pass_bytes, self.block_bytes) == (layout.length_bytes(), layout.block_size().bytes())
    }

    /// Whether a target that names this generation and root is at this state.
    pub(crate) fn is_at(&self, generation: Generation, root: Digest) -> bool {
        !root.is_zero() && self.generation == generation.0 && self.root == root.to_string()
    }
}

/// What is kept of a source beside its digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    pub(crate) base: Base,
    /// Blocks that feeds named since the base: first and one past the last, ascending.
    named: Vec<(u64, u64)>,
    /// Where the check of unnamed blocks goes on, bytes.
    pub(crate) check_from: u64,
    /// Whether what the last feed left unnamed was checked.
    pub(crate) is_checked: bool,
}

impl Lineage {
    /// A source that was just sealed.
    pub(crate) fn sealed(base: Base, check_from: u64) -> Self {
        Self { base, named: Vec::new(), check_from, is_checked: true }
    }

    /// What is kept of a source with this folder; none where nothing is, or nothing that can be used.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        let path = path_of(folder);
        saved::restore(&path).unwrap_or_else(|finding| {
            tracing::warn!("{}: {}", path.display(), finding.evidence);
            None
        })
    }

    /// Keeps it, durably.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), Finding> {
        let path = path_of(folder);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| saved::failed("make", parent, error))?;
        }
        saved::replace(&path, self)
    }

    /// Forgets it, durably.
    pub(crate) fn remove(folder: &Path) -> Result<(), Finding> {
        let path = path_of(folder);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed,
        };
        let parent = path.parent().unwrap_or(Path::new("/"));
        removed
            .and_then(|()| saved::sync_folder(parent))
            .map_err(|error| saved::failed("remove", &path, error))
    }

    /// Whether no feed was asked since the base.
    pub(crate) fn is_fresh(&self) -> bool {
        self.named.is_empty()
    }

    /// Blocks that feeds named since the base.
    pub(crate) fn named(&self) -> Vec<BlockRange> {
        self.named.iter().map(|&(start, end)| BlockRange::new(start, end)).collect()
    }

    /// Adds what another feed names.
    pub(crate) fn name(&mut self, blocks: &[BlockRange]) {
        self.is_checked = false;
        let mut all = self.named();
        all.extend_from_slice(blocks);
        self.named = joined(all, NAMED_RANGES_MAX).iter().map(|run| (run.start.0, run.end.0)).collect();
    }
}

/// Where the lineage of a source with this folder lies: beside it.
fn path_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lineage.json");
    name.into()
}

/// Ranges in order, those that touch joined; where there are too many, also those with the smallest gaps between them.
fn joined(mut ranges: Vec<BlockRange>, most: usize) -> Vec<BlockRange> {
    ranges.sort_by_key(|range| range.start.0);
    let join = |ranges: Vec<BlockRange>, gap: u64| {
        let mut out: Vec<BlockRange> = Vec::new();
        for range in ranges {
            match out.last_mut() {
                Some(last) if range.start.0 <= last.end.0.saturating_add(gap) => {
                    last.end.0 = last.end.0.max(range.end.0);
                }
                _ => out.push(range),
            }
        }
        out
    };
    let mut ranges = join(ranges, 0);
    let mut gap = 1;
    while ranges.len() > most {
        ranges = join(ranges, gap);
        gap *= 2;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        Base {
            epoch: 3,
            cycle: 7,
            generation: 5,
            root: Digest([7; 32]).to_string(),
            pass_bytes: 1 << 30,
            block_bytes: 65_536,
            named: "x".into(),
            snapshot: None,
        }
    }

    #[test]
    fn what_any_feed_named_since_the_base_stays_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web01/disk0");
        assert_eq!(Lineage::of(&path), None);
        let mut lineage = Lineage::sealed(base(), 0);
        assert!(lineage.is_fresh());
        lineage.name(&[BlockRange::new(4, 6), BlockRange::new(9, 10)]);
        lineage.name(&[BlockRange::new(0, 1), BlockRange::new(6, 7)]);
        lineage.keep(&path).expect("kept");
        let held = Lineage::of(&path).expect("there");
        assert_eq!(held.named(), [BlockRange::new(0, 1), BlockRange::new(4, 7), BlockRange::new(9, 10)]);
        assert!(!held.is_fresh());
        Lineage::remove(&path).expect("removed");
        Lineage::remove(&path).expect("gone already");
        assert_eq!(Lineage::of(&path), None);
    }

    #[test]
    fn too_many_ranges_are_joined_and_none_is_lost() {
        let many: Vec<_> = (0..1000).map(|n| BlockRange::new(n * 10, n * 10 + 1)).collect();
        let few = joined(many.clone(), 100);
        assert!(few.len() <= 100, "{}", few.len());
        let holds =
            |range: &BlockRange| few.iter().any(|run| run.start <= range.start && range.end <= run.end);
        assert!(many.iter().all(holds));
    }

    #[test]
    fn a_base_is_told_by_generation_and_root() {
        assert!(base().is_at(Generation(5), Digest([7; 32])));
        assert!(
            !base().is_at(Generation(6), Digest([7; 32])) && !base().is_at(Generation(5), Digest([8; 32]))
        );
        let nothing = Base { root: Digest::ZERO.to_string(), ..base() };
        assert!(!nothing.is_at(Generation(5), Digest::ZERO), "a root that is not known is no state");
    }
}
