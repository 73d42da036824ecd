//! The error latch of a medium.
//!
//! After a failed `fdatasync` the kernel may have dropped the pages it could not write, may show others that never
//! arrived, and calls the next sync a success. **Invariant**: once a latch is set, nothing on that device succeeds
//! again until it is opened anew.

use crate::{DiskError, Operation};
use failback_model::Code;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// Remembers the first failed sync.
#[derive(Debug, Default)]
pub(crate) struct Latch(OnceLock<String>);

impl Latch {
    /// Refuses an operation after a failed sync.
    pub(crate) fn check(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        match self.0.get() {
            None => Ok(()),
            Some(first) => {
                let reason =
                    format!("an earlier flush failed ({first}); open it again and compare everything");
                Err(DiskError::new(Code::FlushFailed, operation, path, reason))
            }
        }
    }

    /// Runs `sync` unless an earlier one failed, and remembers its failure.
    pub(crate) fn run(
        &self,
        path: &Path,
        mut sync: impl FnMut() -> Result<(), Errno>,
    ) -> Result<(), DiskError> {
        self.check(Operation::Flush, path)?;
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

    #[test]
    fn one_failure_is_for_ever() {
        let latch = Latch::default();
        let path = Path::new("disk");
        assert!(latch.run(path, || Ok(())).is_ok() && latch.check(Operation::Read, path).is_ok());
        assert!(latch.run(path, || Err(Errno::IO)).is_err());
        let error = latch.run(path, || Ok(())).unwrap_err();
        assert!(error.to_string().contains("an earlier flush failed"), "{error}");
        assert_eq!(latch.check(Operation::Write, path).unwrap_err().code, Code::FlushFailed);
    }
}
