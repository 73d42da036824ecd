//! The error latch of a medium.
//!
//! After a failed `fdatasync` the kernel may have dropped the pages it could not write and call the next sync a
//! success. **Invariant**: once a latch is set, no sync of that device ever succeeds again.

use crate::{DiskError, Operation};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// Remembers the first failed sync.
#[derive(Debug, Default)]
pub(crate) struct Latch(OnceLock<String>);

impl Latch {
    /// Runs `sync` unless an earlier one failed, and remembers its failure.
    pub(crate) fn run(
        &self,
        path: &Path,
        mut sync: impl FnMut() -> Result<(), rustix::io::Errno>,
    ) -> Result<(), DiskError> {
        if let Some(first) = self.0.get() {
            let reason = format!("an earlier flush failed ({first}); open it again and compare everything");
            return Err(DiskError::new(failback_model::Code::FlushFailed, Operation::Flush, path, reason));
        }
        rustix::io::retry_on_intr(&mut sync).map_err(|errno| {
            let error = io::Error::from(errno);
            let _first_wins = self.0.set(error.to_string());
            DiskError::io(Operation::Flush, path, None, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn one_failure_is_for_ever() {
        let latch = Latch::default();
        let path = Path::new("disk");
        assert!(latch.run(path, || Ok(())).is_ok());
        assert!(latch.run(path, || Err(Errno::IO)).is_err());
        let error = latch.run(path, || Ok(())).unwrap_err();
        assert!(error.to_string().contains("an earlier flush failed"), "{error}");
    }
}
