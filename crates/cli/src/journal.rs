//! `failback journal`: what `sync --journal` did is shown, taken back or made final. No source and no daemon is needed.

use crate::confirm::confirm;
use crate::journal_args::{CommitJournalArgs, JournalCommand, ShowJournalArgs, UndoArgs};
use crate::protection::Protection;
use crate::report::{Summary, Voice, warn};
use crate::summary::table;
use failback_image::{Access, ImageSpec};
use failback_model::{Code, ExitClass, Finding};
use failback_pass::Cancel;
use failback_service::clock::time_text;
use failback_service::size::human;
use failback_store::{Fingerprint, Point, RollbackProgress, StoreError};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

const SHOW_EVERY: Duration = Duration::from_secs(2);

/// Runs one of the commands.
pub(crate) fn run(command: &JournalCommand, cancel: &Cancel) -> ExitClass {
    let voice = Voice { command: command.name(), json: command.json(), quiet: false };
    match command {
        JournalCommand::Show(args) => finish(voice, "shown", show(args)),
        JournalCommand::Undo(args) => finish(voice, "undone", undo(args, cancel)),
        JournalCommand::Commit(args) => finish(voice, "committed", commit(args)),
    }
}

fn finish(voice: Voice, done: &'static str, outcome: Result<impl Summary, Finding>) -> ExitClass {
    match outcome {
        Ok(summary) => voice.finish(done, &summary, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}

/// Opens a journal that is there: a wrong path makes none.
fn open(folder: &Path) -> Result<Protection, Finding> {
    if !folder.join("undo").is_dir() {
        let evidence = format!("{} is no folder of 'failback sync --journal'", folder.display());
        return Err(Finding::error(Code::OpenFailed, evidence).about(folder));
    }
    Protection::open(folder)
}

fn failed(error: StoreError) -> Finding {
    error.to_finding()
}

/// A state that a journal leads back to.
#[derive(Serialize)]
struct State {
    number: u64,
    /// When the source was like that, milliseconds since 1970; none of the original.
    source_unix_ms: Option<u64>,
    sealed_unix_ms: u64,
    restored: Option<u64>,
    root: Option<String>,
    undo_bytes: u64,
}

impl From<&Point> for State {
    fn from(point: &Point) -> Self {
        Self {
            number: point.number,
            source_unix_ms: Some(point.claim.source_unix_ms).filter(|_| point.number != 0),
            sealed_unix_ms: point.sealed_unix_ms,
            restored: point.restored,
            root: point.disks.first().and_then(|disk| disk.root).map(|root| root.to_string()),
            undo_bytes: point.undo_bytes,
        }
    }
}

#[derive(Serialize)]
struct Shown {
    journal: String,
    states: Vec<State>,
    /// Whether a pass was cut off behind the last of them.
    is_partial: bool,
    undo_bytes: u64,
}

impl Summary for Shown {
    fn text(&self) -> String {
        let row = |state: &State| {
            let what = match (state.number, state.restored) {
                (0, _) => "the original".into(),
                (_, Some(earlier)) => format!("what state {earlier} was"),
                (_, None) => format!("a pass, sealed {}", time_text(state.sealed_unix_ms)),
            };
            format!("  {:>4}  {what}\n", state.number)
        };
        let rows: String = self.states.iter().map(row).collect();
        let partial = if self.is_partial { "  a pass was cut off behind the last of them\n" } else { "" };
        format!("{}: undo takes {}\n{rows}{partial}", self.journal, human(self.undo_bytes))
    }
}

fn show(args: &ShowJournalArgs) -> Result<Shown, Finding> {
    let protection = open(&args.folder)?;
    let space = protection.store.undo_space().map_err(failed)?;
    Ok(Shown {
        journal: args.folder.display().to_string(),
        states: protection.store.points().iter().map(State::from).collect(),
        is_partial: protection.store.standing().is_partial,
        undo_bytes: space.map_or(0, |space| space.used_bytes),
    })
}

#[derive(Serialize)]
struct Undone {
    target: String,
    asked: u64,
    state: u64,
    written_bytes: u64,
    root: Option<String>,
}

impl Summary for Undone {
    fn text(&self) -> String {
        let rows = [
            ("state", format!("{}, which is now the newest, {}", self.asked, self.state)),
            ("written", human(self.written_bytes)),
            ("root", self.root.clone().unwrap_or_default()),
        ];
        table(&format!("{} is what it was", self.target), &rows)
    }

    fn has_written(&self) -> bool {
        self.written_bytes > 0
    }
}

fn undo(args: &UndoArgs, cancel: &Cancel) -> Result<Undone, Finding> {
    let protection = open(&args.folder)?;
    if !protection.store.points().iter().any(|point| point.number == args.to) {
        let evidence = format!("{} leads back to no state {}", args.folder.display(), args.to);
        let remedy = format!("choose one of 'failback journal show {}'", args.folder.display());
        return Err(Finding::error(Code::PointUnknown, evidence).with_remedy(remedy));
    }
    let spec = ImageSpec::parse(&args.target);
    let image = failback_image::open(&spec, Access::Write).map_err(|error| error.to_finding())?;
    if let Some(finding) = protection.check(&*image, false)? {
        let remedy = "nothing was written: what something else wrote would stay between what is put back. Bring the \
                      disk home with 'failback sync --accept-divergence' instead";
        return Err(finding.with_remedy(remedy));
    }
    let what = if args.to == 0 { "its original".into() } else { format!("state {}", args.to) };
    let question = format!("Bring {} back to {what}, overwriting what it holds?", args.target.display());
    confirm(&question, args.yes)?;
    let disks = [(Arc::clone(&protection.disk), Arc::clone(&image))];
    let progress = RollbackProgress::default();
    let is_shown = !args.progress.quiet && !args.progress.no_progress;
    let rolled = with_lines(is_shown, &progress, || {
        protection.store.roll_back(args.to, &disks, &progress, &|| cancel.is_cancelled())
    });
    // Whatever came of it, nothing is left half written in the image's own metadata.
    let closed = image.close().map_err(|error| error.to_finding());
    let rolled = rolled.map_err(|error| stopped(error, args))?;
    closed?;
    let state = protection.disk.state();
    let looks = Fingerprint::of_settled_image(&*image, state.epoch).map_err(|error| error.to_finding())?;
    protection.disk.released(&looks).map_err(failed)?;
    Ok(Undone {
        target: args.target.display().to_string(),
        asked: args.to,
        state: rolled.point,
        written_bytes: rolled.written_bytes,
        root: state.root.map(|root| root.to_string()),
    })
}

fn stopped(error: StoreError, args: &UndoArgs) -> Finding {
    let finding = error.to_finding();
    match error {
        StoreError::Stopped => finding.with_remedy(format!(
            "run 'failback journal undo --to {}' again to finish it, or a sync to go on from here",
            args.to
        )),
        _ => finding,
    }
}

/// Tells on standard error how far it is, while it runs.
fn with_lines<T>(is_shown: bool, progress: &RollbackProgress, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (end, ended) = mpsc::channel::<()>();
        let told = move || {
            while is_shown && ended.recv_timeout(SHOW_EVERY) == Err(RecvTimeoutError::Timeout) {
                let (done, total) = (progress.restored_bytes(), progress.total_bytes());
                let read = human(progress.read_back_bytes());
                warn(&format!("put back {} of at most {}, read back {read}\n", human(done), human(total)));
            }
        };
        // Without its lines it is still carried out.
        let _told = std::thread::Builder::new().name("progress".into()).spawn_scoped(scope, told);
        let done = work();
        drop(end);
        done
    })
}

#[derive(Serialize)]
struct Committed {
    journal: String,
    freed_bytes: u64,
}

impl Summary for Committed {
    fn text(&self) -> String {
        format!("{}: final, {} of undo are gone\n", self.journal, human(self.freed_bytes))
    }
}

fn commit(args: &CommitJournalArgs) -> Result<Committed, Finding> {
    let protection = open(&args.folder)?;
    let standing = protection.store.standing();
    if standing.is_partial {
        let evidence = "a pass was cut off: what the target holds is no state of its source";
        let remedy = "finish it with the same 'failback sync', or take it back with 'failback journal undo'";
        return Err(Finding::error(Code::PointUnknown, evidence).with_remedy(remedy));
    }
    let question = format!(
        "Give up all states that {} leads back to, the original too? This cannot be taken back.",
        args.folder.display()
    );
    confirm(&question, args.yes)?;
    let freed_bytes = protection.store.commit().map_err(failed)?;
    Ok(Committed { journal: args.folder.display().to_string(), freed_bytes })
}
