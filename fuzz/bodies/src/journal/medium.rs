//! A store's files in memory.

use failback_blockio::{Device, DiskError, Operation};
use failback_store::Medium;
use failback_testkit::MemoryDevice;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// Files by name.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryMedium(Arc<Mutex<BTreeMap<String, Arc<MemoryDevice>>>>);

impl MemoryMedium {
    pub(super) fn put(&self, name: &str, file: MemoryDevice) {
        self.files().insert(name.into(), Arc::new(file.named(name)));
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryDevice>>> {
        self.0.lock().expect("nobody panics with it")
    }
}

fn not_found(name: &str) -> DiskError {
    DiskError::io(Operation::Open, Path::new(name), None, io::ErrorKind::NotFound.into())
}

impl Medium for MemoryMedium {
    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        self.put(name, MemoryDevice::new(0));
        self.open(name)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        self.files().get(name).cloned().map(|file| file as Arc<dyn Device>).ok_or_else(|| not_found(name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut files = self.files();
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.files().remove(name).map(drop).ok_or_else(|| not_found(name))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn segment_max_bytes(&self) -> u64 {
        256 << 10
    }

    fn ahead_bytes(&self) -> u64 {
        1 << 20
    }
}
