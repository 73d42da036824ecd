//! A disk of the site, from its definition to a sink that a pass may write to.

use failback_blockio::DiskError;
use failback_engine::{Known, Sink};
use failback_image::{Access, CreateOptions, Image, ImageSpec};
use failback_model::{Code, Digest, Epoch, Finding, Generation, Layout, PointClaim, SessionNumber, Severity};
use failback_pass::{content_end_bytes, disk_mark, is_another_disk};
use failback_session::handshake::Target as Offer;
use failback_store::{DiskState, DiskStore, Fingerprint, MachineStore, StoreError};
use failback_wire::Open;
use std::sync::Arc;

/// A disk as its registry defines it.
pub struct TargetDisk {
    /// Where its image lies.
    pub image: ImageSpec,
    /// How it is made where it does not exist; `None`: it has to exist. Its length is at least the source's.
    pub create: Option<CreateOptions>,
    /// Extend it where the source is longer.
    pub grow: bool,
    /// Images whose blocks may be copied instead of received.
    pub seeds: Vec<ImageSpec>,
    /// Its machine's journal.
    pub machine: Arc<MachineStore>,
    /// What that journal knows of it.
    pub store: Arc<DiskStore>,
    /// Bytes that may be under way for it.
    pub window_bytes: u64,
}

/// A disk that is open.
pub(crate) struct Target {
    pub(crate) image: Arc<dyn Image>,
    machine: Arc<MachineStore>,
    pub(crate) store: Arc<DiskStore>,
    pub(crate) seeds: Vec<Arc<dyn failback_blockio::UnitSource>>,
    pub(crate) is_new: bool,
    pub(crate) window_bytes: u64,
    mark: String,
    before: DiskState,
    /// What was found of it and is accepted for this job.
    pub(crate) accepted: Option<Finding>,
    /// Bytes that were read again to notice what else wrote to it.
    pub(crate) rechecked_bytes: u64,
    /// Its length, or what it may be extended to.
    length_bytes: u64,
}

impl TargetDisk {
    /// Opens the image, or makes it with the source's length. Reads and writes.
    pub(crate) fn open(self, length_bytes: u64) -> Result<Target, Finding> {
        let failed = |error: DiskError| error.to_finding();
        let exists = failback_image::exists(&self.image).map_err(failed)?;
        let (image, is_new) = match &self.create {
            _ if exists => (failback_image::open(&self.image, Access::Write).map_err(failed)?, false),
            Some(options) => {
                let length_bytes = options.length_bytes.max(length_bytes);
                let options = CreateOptions { length_bytes, ..options.clone() };
                (failback_image::create(&self.image, &options).map_err(failed)?, true)
            }
            None => {
                let evidence = format!("{} does not exist, and is not to be made", self.image.path.display());
                let remedy = "hot-add the disk, correct its path, or allow 'create' for it";
                return Err(Finding::error(Code::OpenFailed, evidence).with_remedy(remedy));
            }
        };
        let mut seeds: Vec<Arc<dyn failback_blockio::UnitSource>> = Vec::new();
        for seed in &self.seeds {
            match failback_image::open(seed, Access::Read) {
                Ok(seed) => seeds.push(seed),
                // Without it more travels, and nothing else is different.
                Err(error) => tracing::warn!("seed {}: {}", seed.path.display(), error.to_finding().evidence),
            }
        }
        let mark = disk_mark(&*image).map_err(failed)?;
        let mut own_bytes = image.geometry().length_bytes;
        if self.grow && own_bytes < length_bytes {
            image.check_grow(length_bytes).map_err(failed)?;
            own_bytes = length_bytes;
        }
        let before = self.store.state();
        let (machine, store, window_bytes) = (self.machine, self.store, self.window_bytes);
        Ok(Target {
            image,
            machine,
            store,
            seeds,
            is_new,
            window_bytes,
            mark,
            before,
            accepted: None,
            rechecked_bytes: 0,
            length_bytes: own_bytes,
        })
    }
}

impl Target {
    /// What the other end is told of it; its job has this epoch.
    pub(crate) fn offer(&self, epoch: Epoch) -> Offer {
        let over = self.machine.standing().epoch;
        let geometry = self.image.geometry();
        Offer {
            length_bytes: self.length_bytes,
            sector_bytes: geometry.sector_size.bytes() as u32,
            disk_mark: self.mark.clone(),
            epoch: self.before.epoch,
            generation: self.before.generation,
            root: self.told_root(),
            is_new: self.is_new,
            has_seeds: !self.seeds.is_empty(),
            is_resumed: self.is_resumed(),
            is_divergence_accepted: self.accepted.is_some(),
            is_taken_back: over > Epoch(0) && self.before.epoch <= over && epoch > over,
            window_bytes: self.window_bytes,
        }
    }

    /// Judges the target, and what the source said of itself, before anything of the target changes. All that forbids the
    /// pass, in the order of PROTOCOL.md.
    pub(crate) fn check(&mut self, open: &Open) -> Result<Vec<Finding>, Finding> {
        let mut found = Vec::new();
        if self.is_new {
            return Ok(found);
        }
        let diverged = self.diverged(open.epoch)?;
        if open.accept_divergence {
            self.accepted = diverged.map(|finding| Finding { severity: Severity::Warning, ..finding });
        } else {
            found.extend(diverged);
        }
        found.extend(self.unwritable(open.content_end_bytes));
        if !open.accept_mismatch {
            let another = self.another_disk(open).map_err(|error| error.to_finding())?;
            found.extend(another.map(|evidence| Finding::error(Code::WrongDisk, evidence)));
        }
        Ok(found)
    }

    /// What shows that something else wrote to the target since its last pass.
    fn diverged(&mut self, epoch: Epoch) -> Result<Option<Finding>, Finding> {
        let rechecked = self.store.recheck(&*self.image, epoch).map_err(refused)?;
        self.rechecked_bytes = rechecked.bytes;
        let name = self.image.name().display();
        let finding = |what| Finding::error(Code::Diverged, format!("{name}: {what}"));
        Ok(rechecked.divergence.map(finding))
    }

    /// Where the source may have data, the target must be able to hold it.
    fn unwritable(&self, content_end_bytes: u64) -> Option<Finding> {
        let ranges = self.image.unwritable_ranges();
        let range = ranges.iter().find(|range| range.start() < content_end_bytes)?;
        let evidence = format!(
            "{} has no file for its bytes {} to {} (a ZERO extent), the source's contents end at {content_end_bytes}",
            self.image.name().display(),
            range.start(),
            range.end()
        );
        Some(Finding::error(Code::ImageReadOnlyKind, evidence))
    }

    /// Why the target looks like another disk than the source. A source that is nothing but zeros is no state of a disk
    /// that holds anything.
    fn another_disk(&self, open: &Open) -> Result<Option<String>, DiskError> {
        if open.content_end_bytes == 0 && content_end_bytes(&*self.image)? > 0 {
            let name = self.image.name().display();
            return Ok(Some(format!("the source of disk {} is all zeros, and {name} is not", open.disk)));
        }
        is_another_disk(&*self.image, open.length_bytes, &open.sample)
    }

    /// Begins the session, durably; older ones are refused from now on.
    pub(crate) fn begin(self, epoch: Epoch, layout: Layout) -> Result<(Self, SessionNumber), Finding> {
        let grows = self.image.geometry().length_bytes < layout.length_bytes();
        if grows || self.accepted.is_some() {
            // Whoever is killed behind it finds a disk of which nothing is known, not one that somebody else changed.
            self.store.forget().map_err(refused)?;
        }
        if self.accepted.is_some() {
            // What was overwritten by something else is in no undo: no way back leads to anything that ever was.
            self.machine.end_history().map_err(refused)?;
        }
        if grows {
            self.image.grow(layout.length_bytes()).map_err(|error| error.to_finding())?;
        }
        let fingerprint = Fingerprint::of_image(&*self.image, epoch).map_err(|error| error.to_finding())?;
        let number = self.store.open_session(epoch, layout, self.is_new, &fingerprint).map_err(refused)?;
        Ok((self, number))
    }

    /// Generation of its last sealed state.
    pub(crate) fn generation(&self) -> Generation {
        self.before.generation
    }

    /// Whether an earlier pass was cut and left something to go on from.
    pub(crate) fn is_resumed(&self) -> bool {
        self.before.in_pass && self.before.trusted_blocks > 0 && self.accepted.is_none()
    }

    /// Root of the state that the disk is still in, as the sending end is told.
    pub(crate) fn told_root(&self) -> Option<Digest> {
        self.before.root.filter(|_| !self.before.in_pass && self.accepted.is_none())
    }

    /// What need not be scanned.
    pub(crate) fn known(&self) -> Result<Known, Finding> {
        Ok(self.store.trusted().map_err(refused)?.into())
    }

    /// Where the session writes to.
    pub(crate) fn sink(&self, session: SessionNumber, claim: PointClaim) -> Arc<dyn Sink> {
        self.store.sink(Arc::clone(&self.image), session, claim)
    }
}

fn refused(error: StoreError) -> Finding {
    error.to_finding()
}
