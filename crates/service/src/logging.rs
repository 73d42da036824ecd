//! The log: lines on standard error. Under systemd's journal, which knows the time, without one and with priorities.
//!
//! **Invariant**: one event is one line, and holds no control character.

use crate::config::{LogFormat, LogLevel};
use crate::report::printable;
use std::fmt;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Starts to log for the life of the process.
pub fn start(level: LogLevel, format: LogFormat) {
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    // There is one log a process; a second start changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber(level, format, journal, std::io::stderr));
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    journal: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = LevelFilter::from_level(level.into());
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(builder.event_format(Lines { journal }).finish()),
    }
}

/// Whether standard error leads to the journal: then JOURNAL_STREAM names its device and inode.
fn is_journal(stream: Option<&str>) -> bool {
    let named = stream.and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let ours = rustix::fs::fstat(std::io::stderr()).ok();
    named.is_some() && named == ours.map(|stat| (stat.st_dev, stat.st_ino))
}

/// Lines for people.
struct Lines {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        } else {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " {level:5} ")?;
        }
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", printable(&text))
    }
}

/// As sd-daemon(3) numbers them.
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, journal: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(LogLevel::Info, format, journal, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(disk = "d0", "peer said \u{1b}[2J\nand more");
            tracing::debug!("too much");
        });
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn lines_are_plain_and_single() {
        let journal = logged(LogFormat::Text, true);
        assert!(journal.starts_with("<4>peer said ") && journal.matches('\n').count() == 1, "{journal:?}");
        assert!(!journal.contains('\u{1b}') && journal.contains("d0"), "{journal:?}");
        let plain = logged(LogFormat::Text, false);
        let (time, rest) = plain.split_once(' ').expect("a time");
        assert!(time.starts_with("20") && time.ends_with('Z') && rest.starts_with("WARN  peer"), "{plain:?}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = logged(LogFormat::Json, true);
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&object["level"], &object["disk"]), (&"WARN".into(), &"d0".into()));
        assert!(object["message"].as_str().expect("text").starts_with("peer said"));
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let stat = rustix::fs::fstat(io::stderr()).expect("it is open");
        assert!(is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        for other in [None, Some(""), Some("1:1"), Some("x:y"), Some("1")] {
            assert!(!is_journal(other), "{other:?}");
        }
    }
}
