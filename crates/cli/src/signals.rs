//! Ctrl-C and SIGTERM: the first asks the pass to end cleanly, the second ends the process.

use crate::report::warn;
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Gives what the first signal cancels, for the life of the process.
pub(crate) fn cancel_on_signal() -> Result<Cancel, Finding> {
    let unable = |error| Finding::error(Code::Internal, format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(unable)?;
    let cancel = Cancel::default();
    let asked = cancel.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if asked.is_cancelled() {
                    signal_hook::low_level::exit(ExitClass::Signal.code().into());
                }
                asked.cancel();
                warn("\nstopping cleanly; once more to stop at once\n");
            }
        })
        .map_err(unable)?;
    Ok(cancel)
}
