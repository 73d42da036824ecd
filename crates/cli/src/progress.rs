//! Shows a running pass on standard error: a bar on a terminal, plain lines elsewhere.
//!
//! **Invariant**: nothing of it reaches standard output, and it never slows the pass: it only reads counters.

use crate::args::ProgressArgs;
use crate::pace::{counters, line, tail};
use crate::report::warn;
use failback_pass::{Pace, Progress, Totals};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Milliseconds between two looks, in place of both; for tests.
const EVERY_VARIABLE: &str = "FAILBACK_PROGRESS_MS";
/// Positions of the bar; bytes of a big disk would do as well, but a fixed scale also serves an empty one.
const BAR_STEPS: u64 = 1000;

/// Shows progress until it is dropped.
pub(crate) struct Shown(Option<(Sender<()>, JoinHandle<()>)>);

/// Starts to show `progress`, unless it was asked not to.
pub(crate) fn show(args: &ProgressArgs, totals: Totals, progress: &Arc<Progress>) -> Shown {
    if args.quiet || args.no_progress {
        return Shown(None);
    }
    let (end, ended) = mpsc::channel();
    let progress = Arc::clone(progress);
    let mut pace = Pace::new(totals, Instant::now());
    let spawned = std::thread::Builder::new().name("progress".into()).spawn(move || {
        let bar = std::io::stderr().is_terminal().then(bar);
        let every = interval(bar.is_some());
        let mut lines = 0;
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let view = pace.observe(Instant::now(), &progress);
            let Some(bar) = &bar else {
                warn(&format!("{}\n", line(&view)));
                lines += 1;
                continue;
            };
            let share = view.done_bytes as f64 / view.total_bytes.max(1) as f64;
            bar.set_position((share * BAR_STEPS as f64) as u64);
            bar.set_prefix(tail(&view).trim_start_matches("; ").to_string());
            // Two counters a line fit a terminal of 80 columns.
            let lines: Vec<_> = counters(&view).chunks(2).map(|pair| pair.join(", ")).collect();
            bar.set_message(lines.join("\n"));
        }
        match bar {
            Some(bar) => bar.finish_and_clear(),
            // Who has read the beginning also reads how far it came.
            None if lines > 0 => warn(&format!("{}\n", line(&pace.observe(Instant::now(), &progress)))),
            None => {}
        }
    });
    // A pass without its bar is still a pass.
    Shown(spawned.ok().map(|thread| (end, thread)))
}

fn interval(is_bar: bool) -> Duration {
    let asked = std::env::var(EVERY_VARIABLE).ok().and_then(|text| text.parse().ok());
    asked.map_or(if is_bar { BAR_EVERY } else { LINE_EVERY }, Duration::from_millis)
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{percent:>3} % [{bar:30}] {prefix}\n{msg}");
    bar.set_style(style.expect("the template is valid").progress_chars("=> "));
    bar
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}
