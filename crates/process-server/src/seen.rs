//! What was found out about a source, kept from one try to the next: a target that does not answer for an hour shall not
//! cost a walk through the source's hole map with each try.
//!
//! **Invariant**: what is told was found while the source looked as it does now.

use failback_blockio::DiskError;
use failback_image::Image;
use failback_pass::SourceFacts;
use failback_store::Fingerprint;
use std::sync::{Arc, Mutex, PoisonError};

/// One source's facts. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct SeenSource(Arc<Mutex<Option<Seen>>>);

#[derive(Debug)]
struct Seen {
    fingerprint: Fingerprint,
    facts: Arc<SourceFacts>,
}

impl SeenSource {
    /// Facts of a source with this fingerprint: looked for where it is not the one that was seen last, or has changed since.
    pub(crate) fn facts(
        &self,
        source: &dyn Image,
        fingerprint: Fingerprint,
    ) -> Result<Arc<SourceFacts>, DiskError> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some(held) if held.fingerprint == fingerprint => Ok(Arc::clone(&held.facts)),
            _ => {
                let facts = Arc::new(SourceFacts::of(source)?);
                *seen = Some(Seen { fingerprint, facts: Arc::clone(&facts) });
                Ok(facts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_image::{Access, ImageSpec};
    use failback_model::Epoch;
    use std::fs;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_source_is_looked_at_once_while_it_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("source.raw");
        fs::write(&path, [7; 4 << 16]).expect("written");
        let seen = SeenSource::default();
        let look = |epoch| {
            let image = failback_image::open(&ImageSpec::parse(&path), Access::Read).expect("opened");
            let fingerprint = Fingerprint::of_source(&*image, Epoch(epoch), 1, false).expect("looked at");
            seen.facts(&*image, fingerprint).expect("looked at")
        };
        let first = look(1);
        assert_eq!((first.content_end_bytes, first.sample.len()), (4 << 16, 16));
        assert!(Arc::ptr_eq(&first, &look(1)));
        fs::write(&path, [7; 3 << 16]).expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).expect("set");
        assert_eq!(look(1).sample.len(), 12);
    }
}
