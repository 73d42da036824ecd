//! What becomes of a panic: an error for whoever waits, never a wait without end and never an abort.

use crate::api::PassError;
use crossbeam_channel::Sender;
use failback_blockio::{DiskError, Operation};
use failback_model::{Code, Finding};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Answers with an error where the thread that holds it panics, so that whoever waits for the answer does not wait for
/// ever.
pub(crate) struct PanicGuard<'a, T, E: From<DiskError>>(pub(crate) &'a Sender<Result<T, E>>);

impl<T, E: From<DiskError>> Drop for PanicGuard<'_, T, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            // A loop that is gone needs no answer.
            let _ = self.0.send(Err(panicked(thread.name().unwrap_or("a thread")).into()));
        }
    }
}

/// Runs a piece of work on rayon's threads, which would abort the process if it panicked, and answers in any case.
pub(crate) fn spawn_guarded<T: Send + 'static>(
    answers: Sender<Result<T, DiskError>>,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) {
    rayon::spawn(move || match catch_unwind(AssertUnwindSafe(work)) {
        // A loop that is gone needs no answer.
        Ok(answer) => answer.map_or((), |answer| drop(answers.send(Ok(answer)))),
        Err(_) => drop(answers.send(Err(panicked("a worker")))),
    });
}

/// Runs one end of a pass: the threads of its scope may have panicked, and that is the pass's error, not the process's.
pub fn guarded_end<T>(end: impl FnOnce() -> Result<T, PassError>) -> Result<T, PassError> {
    catch_unwind(AssertUnwindSafe(end)).unwrap_or_else(|_| {
        Err(PassError::Failed(Finding::error(Code::Internal, "a thread of the pass panicked, see above")))
    })
}

fn panicked(name: &str) -> DiskError {
    DiskError::new(Code::Internal, Operation::Read, Path::new(name), "this thread panicked, see above")
}
