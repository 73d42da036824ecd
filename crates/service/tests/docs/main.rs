//! docs/control.md and the table of codes in docs/operating.md, from the types themselves: every request, reply and event
//! with an example that is understood again, word for word.

mod examples;
mod schema;

use failback_model::Code;
use failback_service::control::{Reply, Request};
use failback_service::event::Envelope;
use failback_service::status::DaemonStatus;
use failback_testkit::{assert_part, repository};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::{Debug, Write as _};
use std::path::PathBuf;

fn document(name: &str) -> PathBuf {
    repository(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// The example as one line, once it is proven to be understood again.
fn line<T: Serialize + DeserializeOwned + PartialEq + Debug>(example: &T) -> String {
    let line = serde_json::to_string(example).expect("it has string keys");
    assert_eq!(&serde_json::from_str::<T>(&line).expect("it is understood"), example);
    line
}

/// A section for each variant of a tagged type; every variant must have an example.
fn sections<T>(tag: &str, schema: &Value, examples: &[T]) -> String
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut text = String::new();
    for variant in schema::variants(schema, tag) {
        let is_of = |line: &&String| {
            serde_json::from_str::<Value>(line).is_ok_and(|value| value[tag] == variant.name.as_str())
        };
        let lines: Vec<_> = examples.iter().map(line).collect();
        let found: Vec<_> = lines.iter().filter(is_of).collect();
        assert!(!found.is_empty(), "{} has no example", variant.name);
        let _ = write!(text, "### `{}`\n\n{}\n\n", variant.name, variant.meaning);
        if !variant.fields.is_empty() {
            text.push_str("| field | type | meaning |\n|---|---|---|\n");
            for field in &variant.fields {
                let _ = writeln!(text, "| `{}` | {} | {} |", field.name, field.kind, field.meaning);
            }
            text.push('\n');
        }
        for line in found {
            let _ = write!(text, "    {line}\n\n");
        }
    }
    text
}

#[test]
fn every_request_and_reply_is_documented_with_an_example() {
    let requests = sections("request", &schema::of::<Request>(), &examples::requests());
    assert_part(&document("control.md"), "requests", &requests);
    let replies = sections("reply", &schema::of::<Reply>(), &examples::replies());
    assert_part(&document("control.md"), "replies", &replies);
}

#[test]
fn every_event_is_documented_with_an_example() {
    let events = sections("event", &schema::of::<Envelope>(), &examples::events());
    assert_part(&document("control.md"), "events", &events);
}

#[test]
fn every_field_of_the_status_is_documented() {
    let mut text = String::from("| field | type | meaning |\n|---|---|---|\n");
    for field in schema::all_fields(&schema::of::<DaemonStatus>()) {
        let _ = writeln!(text, "| `{}` | {} | {} |", field.name, field.kind, field.meaning);
    }
    assert_part(&document("control.md"), "status", &text);
}

#[test]
fn every_code_is_in_the_operating_guide() {
    let mut text = String::from("| code | what | exit | what to do |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let (title, remedy) = (code.title(), code.remedy());
        let _ = writeln!(text, "| {} | {title} | {} | {remedy} |", code.as_str(), code.exit().code());
    }
    assert_part(&document("operating.md"), "codes", &text);
}
