//! Ctrl-C, SIGTERM and SIGHUP: the first asks a pass to end cleanly, the second ends the process; what is no pass ends
//! with the first.
//!
//! **Invariant**: however it ends, the command says how, with its JSON line where that was asked for; what it had only
//! begun to make is removed.

use crate::args::WhenStopped;
use crate::report::{Voice, warn};
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Files that are of no use to anyone if the process ends now.
static LEFTOVERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Gives what the first signal cancels, for the life of the process. Signals that whoever started us has ignored
/// (`nohup`) stay ignored.
pub(crate) fn listen(voice: Voice, when_stopped: WhenStopped) -> Result<Cancel, Finding> {
    let unable = |error| Finding::error(Code::Internal, format!("cannot listen for signals: {error}"));
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(heard).map_err(unable)?;
    let cancel = Cancel::default();
    let asked = cancel.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut is_late = false;
            for _ in signals.forever() {
                if is_late {
                    // It has ended, but nobody reads how.
                    signal_hook::low_level::exit(ExitClass::Signal.code().into());
                }
                if when_stopped != WhenStopped::EndsItself || asked.is_cancelled() {
                    is_late = end_now(voice, when_stopped);
                    continue;
                }
                asked.cancel();
                warn("\nstopping cleanly; once more to stop at once\n");
            }
        })
        .map_err(unable)?;
    Ok(cancel)
}

/// Ends the process, unless the command is just saying how it ended by itself: then it returns whether that is so.
fn end_now(voice: Voice, when_stopped: WhenStopped) -> bool {
    if !voice.claim() {
        return true;
    }
    for path in LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // Nobody is left to be told.
        let _removed = fs::remove_file(path);
    }
    match when_stopped {
        WhenStopped::Watches => voice.stop_watching(),
        _ => drop(voice.fail(&[Finding::error(Code::Cancelled, "stopped at once")])),
    }
    signal_hook::low_level::exit(ExitClass::Signal.code().into());
}

/// The signals that are ignored, as the kernel says: one bit for each, from 1.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Has files removed if the process is ended at once while this lives.
pub(crate) struct Leftovers(Vec<PathBuf>);

impl Leftovers {
    /// These files, which need not exist yet.
    pub(crate) fn at_exit(files: Vec<PathBuf>) -> Self {
        LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).extend(files.iter().cloned());
        Self(files)
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| !self.0.contains(path));
    }
}
