//! A store's files in memory, with every change of theirs and of the image recorded, and what a power cut leaves of them.
//!
//! Names are durable once they were synced; of later changes of names a prefix is, as file systems keep them in order. Of
//! contents, any part of what was not synced.

use failback_blockio::{Device, DiskError, Operation, Recording, RecordingDevice};
use failback_model::Code;
use failback_store::Medium;
use failback_testkit::{MemoryDevice, Random, leave};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// A change of names, after so many changes of contents.
#[derive(Debug, Clone)]
struct Naming {
    after_events: usize,
    what: Names,
}

#[derive(Debug, Clone)]
enum Names {
    Created { name: String, device: usize },
    Renamed { from: String, to: String },
    Removed { name: String },
    Synced,
}

/// What a medium began with: the files, and the image first.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) image: Arc<MemoryDevice>,
    pub(crate) files: BTreeMap<String, Arc<MemoryDevice>>,
}

impl Contents {
    /// An image of zeros and no files.
    pub(crate) fn new(image_bytes: u64) -> Self {
        Self { image: Arc::new(MemoryDevice::new(image_bytes)), files: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    devices: Vec<Arc<RecordingDevice>>,
    namings: Vec<Naming>,
}

/// Files that remember.
#[derive(Debug, Clone)]
pub(crate) struct CutMedium {
    recording: Recording,
    state: Arc<Mutex<State>>,
    before: Arc<Contents>,
    segment_max_bytes: u64,
    ahead_bytes: u64,
}

impl CutMedium {
    pub(crate) fn over(contents: &Contents, segment_max_bytes: u64, ahead_bytes: u64) -> Self {
        let recording = Recording::new();
        // What the recording changes must not change what it began with.
        let copy = |device: &MemoryDevice| Arc::new(recording.add(Arc::new(device.duplicate())));
        let mut state = State { devices: vec![copy(&contents.image)], ..State::default() };
        for (name, device) in &contents.files {
            state.names.insert(name.clone(), state.devices.len());
            state.devices.push(copy(device));
        }
        let (state, before) = (Arc::new(Mutex::new(state)), Arc::new(contents.clone()));
        Self { recording, state, before, segment_max_bytes, ahead_bytes }
    }

    /// The image, recorded with the files.
    pub(crate) fn image(&self) -> Arc<dyn Device> {
        self.lock().devices[0].clone()
    }

    /// Number of changes of contents so far.
    pub(crate) fn events(&self) -> usize {
        self.recording.events().len()
    }

    /// What a power cut leaves after so many changes.
    pub(crate) fn cut(&self, events: usize, random: &mut Random) -> Contents {
        let all = self.recording.events();
        let state = self.lock();
        let before: Vec<_> = std::iter::once(&self.before.image).chain(self.before.files.values()).collect();
        let device = |number: usize| {
            let fresh = MemoryDevice::new(0);
            let device = before.get(number).map_or(fresh, |device| device.duplicate());
            leave(&all[..events], number, &device, random);
            Arc::new(device)
        };
        let contents: Vec<_> = (0..state.devices.len()).map(device).collect();
        // Of those that came between two changes of contents, the cut may be behind any.
        let certain = state.namings.iter().filter(|naming| naming.after_events < events).count();
        let reached = state.namings.iter().filter(|naming| naming.after_events <= events).count();
        let reached = certain + random.below((reached - certain) as u64 + 1) as usize;
        let is_sync = |naming: &Naming| matches!(naming.what, Names::Synced);
        let synced = state.namings[..reached].iter().rposition(is_sync).map_or(0, |at| at + 1);
        let kept = synced + random.below((reached - synced) as u64 + 1) as usize;
        let names = self.before.files.keys().cloned().zip(1..);
        let mut names: BTreeMap<String, usize> = names.collect();
        state.namings[..kept].iter().for_each(|naming| naming.what.apply(&mut names));
        let files = names.into_iter().map(|(name, device)| (name, contents[device].clone())).collect();
        Contents { image: contents[0].clone(), files }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn log(&self, what: Names) {
        let after_events = self.events();
        let mut state = self.lock();
        what.apply(&mut state.names);
        state.namings.push(Naming { after_events, what });
    }
}

impl Names {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Created { name, device } => drop(names.insert(name.clone(), *device)),
            Self::Renamed { from, to } => {
                let device = names.remove(from).expect("it was there");
                names.insert(to.clone(), device);
            }
            Self::Removed { name } => drop(names.remove(name).expect("it was there")),
            Self::Synced => {}
        }
    }
}

impl Medium for CutMedium {
    fn path(&self) -> &Path {
        Path::new("medium")
    }

    fn names(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        if self.lock().names.contains_key(name) {
            return Err(DiskError::new(Code::ImageExists, Operation::Create, Path::new(name), "it exists"));
        }
        let device = Arc::new(self.recording.add(Arc::new(MemoryDevice::new(0).named(name))));
        let number = {
            let mut state = self.lock();
            state.devices.push(device.clone());
            state.devices.len() - 1
        };
        self.log(Names::Created { name: name.into(), device: number });
        Ok(device)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        let state = self.lock();
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let device = state.names.get(name).map(|&device| state.devices[device].clone());
        device
            .map(|device| device as Arc<dyn Device>)
            .ok_or_else(|| DiskError::io(Operation::Open, Path::new(name), None, not_found()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.log(Names::Renamed { from: from.into(), to: to.into() });
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        if !self.lock().names.contains_key(name) {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(DiskError::io(Operation::Write, Path::new(name), None, error));
        }
        self.log(Names::Removed { name: name.into() });
        Ok(())
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.log(Names::Synced);
        Ok(())
    }

    fn segment_max_bytes(&self) -> u64 {
        self.segment_max_bytes
    }

    fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes
    }
}
