//! A store's files in memory, with every change of theirs and of the images recorded, and what a power cut leaves of them.
//!
//! Names are durable once their folder was synced; of later changes of names a prefix is, as file systems keep them in
//! order, for each folder another one, as they may lie on volumes of their own. Of contents, any part of what was not
//! synced.

use failback_blockio::{Device, DiskError, Operation, Recording, RecordingDevice};
use failback_model::Code;
use failback_store::Medium;
use failback_testkit::{MemoryDevice, Random, leave};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// A change of names, after so many changes of contents.
#[derive(Debug, Clone)]
struct Naming {
    after_events: usize,
    /// In which folder.
    folder: &'static str,
    what: Names,
}

#[derive(Debug, Clone)]
enum Names {
    Created { name: String, device: usize },
    Renamed { from: String, to: String },
    Removed { name: String },
    Synced,
}

/// What a medium began with: the images, and the files by folder and name.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) images: Vec<Arc<MemoryDevice>>,
    pub(crate) files: BTreeMap<String, Arc<MemoryDevice>>,
}

impl Contents {
    /// One image of zeros and no files.
    pub(crate) fn new(image_bytes: u64) -> Self {
        Self::with_images([MemoryDevice::new(image_bytes)])
    }

    /// These images and no files.
    pub(crate) fn with_images(images: impl IntoIterator<Item = MemoryDevice>) -> Self {
        Self { images: images.into_iter().map(Arc::new).collect(), files: BTreeMap::new() }
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
    /// The one that this value shows.
    folder: &'static str,
    segment_max_bytes: u64,
    ahead_bytes: u64,
}

impl CutMedium {
    pub(crate) fn over(contents: &Contents, segment_max_bytes: u64, ahead_bytes: u64) -> Self {
        let recording = Recording::new();
        // What the recording changes must not change what it began with.
        let copy = |device: &MemoryDevice| Arc::new(recording.add(Arc::new(device.duplicate())));
        let mut state =
            State { devices: contents.images.iter().map(|image| copy(image)).collect(), ..State::default() };
        for (name, device) in &contents.files {
            state.names.insert(name.clone(), state.devices.len());
            state.devices.push(copy(device));
        }
        let (state, before) = (Arc::new(Mutex::new(state)), Arc::new(contents.clone()));
        Self { recording, state, before, folder: "", segment_max_bytes, ahead_bytes }
    }

    /// Another folder of the same recording, on a volume of its own. Its name ends with a slash.
    pub(crate) fn folder(&self, folder: &'static str) -> Self {
        Self { folder, ..self.clone() }
    }

    /// The first image, recorded with the files.
    pub(crate) fn image(&self) -> Arc<dyn Device> {
        self.image_of(0)
    }

    /// An image, recorded with the files.
    pub(crate) fn image_of(&self, number: usize) -> Arc<dyn Device> {
        assert!(number < self.before.images.len(), "there are images enough");
        self.lock().devices[number].clone()
    }

    /// Number of changes so far, of contents and of names.
    pub(crate) fn events(&self) -> usize {
        let state = self.lock();
        self.recording.events().len() + state.namings.len()
    }

    /// What a power cut leaves after so many changes.
    pub(crate) fn cut(&self, events: usize, random: &mut Random) -> Contents {
        let state = self.lock();
        let all = self.recording.events();
        // Before the n-th change of names there were n others, and so many changes of contents.
        let order = state.namings.iter().enumerate();
        let namings = order.take_while(|(before, naming)| naming.after_events + before < events).count();
        let events = events - namings;
        let before: Vec<_> = self.before.images.iter().chain(self.before.files.values()).collect();
        let device = |number: usize| {
            let fresh = MemoryDevice::new(0);
            let device = before.get(number).map_or(fresh, |device| device.duplicate());
            leave(&all[..events], number, &device, random);
            Arc::new(device)
        };
        let contents: Vec<_> = (0..state.devices.len()).map(device).collect();
        let images = self.before.images.len();
        let mut names: BTreeMap<String, usize> = self.before.files.keys().cloned().zip(images..).collect();
        let namings = &state.namings[..namings];
        let folders: BTreeSet<_> = namings.iter().map(|naming| naming.folder).collect();
        for folder in folders {
            let namings = namings.iter().filter(|naming| naming.folder == folder);
            kept(namings, random).iter().for_each(|naming| naming.what.apply(&mut names));
        }
        let files = names.into_iter().map(|(name, device)| (name, contents[device].clone())).collect();
        Contents { images: contents[..images].to_vec(), files }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn log(&self, what: Names) {
        let mut state = self.lock();
        let after_events = self.recording.events().len();
        what.apply(&mut state.names);
        state.namings.push(Naming { after_events, folder: self.folder, what });
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }
}

/// The changes of one folder's names that a cut behind these leaves: all that were synced, and some more.
fn kept<'a>(namings: impl Iterator<Item = &'a Naming>, random: &mut Random) -> Vec<&'a Naming> {
    let mut namings: Vec<_> = namings.collect();
    let is_sync = |naming: &&Naming| matches!(naming.what, Names::Synced);
    let synced = namings.iter().rposition(is_sync).map_or(0, |at| at + 1);
    namings.truncate(synced + random.below((namings.len() - synced) as u64 + 1) as usize);
    namings
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
        let state = self.lock();
        let names = state.names.keys().filter_map(|name| name.strip_prefix(self.folder));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        let name = self.full(name);
        if self.lock().names.contains_key(&name) {
            return Err(DiskError::new(Code::ImageExists, Operation::Create, Path::new(&name), "it exists"));
        }
        let device = Arc::new(self.recording.add(Arc::new(MemoryDevice::new(0).named(&name))));
        let number = {
            let mut state = self.lock();
            state.devices.push(device.clone());
            state.devices.len() - 1
        };
        self.log(Names::Created { name, device: number });
        Ok(device)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, DiskError> {
        let (name, state) = (self.full(name), self.lock());
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let device = state.names.get(&name).map(|&device| state.devices[device].clone());
        device
            .map(|device| device as Arc<dyn Device>)
            .ok_or_else(|| DiskError::io(Operation::Open, Path::new(&name), None, not_found()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.log(Names::Renamed { from: self.full(from), to: self.full(to) });
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let name = self.full(name);
        if !self.lock().names.contains_key(&name) {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(DiskError::io(Operation::Write, Path::new(&name), None, error));
        }
        self.log(Names::Removed { name });
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
