//! `failback events`: what a daemon does, as it does it.

use super::orders::voice;
use crate::registry_args::EventsArgs;
use crate::report::{Nothing, print, unheard};
use failback_model::{Code, ExitClass, Finding};
use failback_service::control::{Client, Request};
use failback_service::event::Envelope;
use failback_service::report::printable;

/// Runs the command.
pub(crate) fn run(args: &EventsArgs) -> ExitClass {
    let voice = voice("events", &args.output);
    match follow(args) {
        Ok(()) => voice.finish("done", &Nothing {}, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}

fn follow(args: &EventsArgs) -> Result<(), Finding> {
    let request = Request::Events { since: args.since, machine: args.machine.clone() };
    let events = Client::connect(&args.socket.socket)?.events(&request)?;
    let mut told = 0;
    // Nobody waits for an event that is not asked for.
    for event in events.take(args.count.unwrap_or(usize::MAX)) {
        print(&line(&event?, args.output.json)).map_err(|error| unheard(&error))?;
        told += 1;
    }
    match args.count {
        Some(count) if count == told => Ok(()),
        _ => Err(Finding::error(Code::DaemonUnreachable, "the daemon has ended, and with it its events")),
    }
}

fn line(envelope: &Envelope, is_json: bool) -> String {
    if is_json {
        return serde_json::to_string(envelope).unwrap_or_default() + "\n";
    }
    let ms = i64::try_from(envelope.time_unix_ms).ok();
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.map_or_else(|| envelope.time_unix_ms.to_string(), |time| format!("{time:.3}"));
    format!("{} {time} {}\n", envelope.seq, printable(&envelope.event.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_service::event::Event;

    #[test]
    fn an_event_is_one_line_in_words_and_in_json() {
        let event = Event::MachineReleased { machine: "web01".into() };
        let envelope = Envelope { seq: 7, time_unix_ms: 1_795_507_200_250, event };
        assert_eq!(line(&envelope, false), "7 2026-11-24T08:00:00.250Z web01: machine released\n");
        let json: serde_json::Value = serde_json::from_str(&line(&envelope, true)).expect("JSON");
        assert_eq!((&json["seq"], &json["event"]), (&7.into(), &"machine_released".into()));
    }
}
