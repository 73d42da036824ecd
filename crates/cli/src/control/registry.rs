//! `failback register`, `release`, `bandwidth` and `reload`: what a daemon knows and how much it may send.

use super::orders::{finish, voice};
use crate::confirm::confirm;
use crate::registry_args::{BandwidthArgs, RegisterArgs, ReleaseArgs, ReloadArgs};
use failback_model::limits::CONTROL_LINE_MAX_BYTES;
use failback_model::{Code, ExitClass, Finding};
use failback_service::control::Request;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Runs `failback register`.
pub(crate) fn register(args: &RegisterArgs) -> ExitClass {
    let voice = voice("register", &args.job.output);
    let table = if args.disk_of.is_some() { "disk" } else { "machine" };
    let definition = match read(&args.file).and_then(|text| definition(&args.file, &text, table)) {
        Ok(definition) => definition,
        Err(finding) => return voice.fail(&[finding]),
    };
    finish(voice, &args.job, |job| match args.disk_of.clone() {
        Some(machine) => Request::RegisterDisk { job, machine, disk: definition },
        None => Request::RegisterMachine { job, machine: definition },
    })
}

/// Runs `failback release`.
pub(crate) fn release(args: &ReleaseArgs) -> ExitClass {
    let (voice, order) = (voice("release", &args.order.job.output), &args.order);
    let (machine, disk) = (order.machine.clone(), args.disk.clone());
    let question = format!("Forget {machine} with all its disks?");
    if disk.is_none()
        && let Err(finding) = confirm(&question, args.yes)
    {
        return voice.fail(&[finding]);
    }
    finish(voice, &order.job, |job| Request::Release { job, machine, disk })
}

/// Runs `failback bandwidth`.
pub(crate) fn bandwidth(args: &BandwidthArgs) -> ExitClass {
    let (voice, order) = (voice("bandwidth", &args.order.job.output), &args.order);
    let (machine, schedule) = (order.machine.clone(), args.schedule.as_ref().map(ToString::to_string));
    finish(voice, &order.job, |job| Request::Bandwidth { job, machine, schedule })
}

/// Runs `failback reload`.
pub(crate) fn reload(args: &ReloadArgs) -> ExitClass {
    finish(voice("reload", &args.job.output), &args.job, |job| Request::Reload { job })
}

/// A file, or standard input; no longer than what a daemon takes.
fn read(path: &Path) -> Result<String, Finding> {
    let read = || -> io::Result<String> {
        let input: Box<dyn Read> =
            if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        let mut text = String::new();
        input.take(CONTROL_LINE_MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text =
        read().map_err(|error| Finding::error(Code::OpenFailed, format!("{}: {error}", path.display())))?;
    match text.len() {
        0..=CONTROL_LINE_MAX_BYTES => Ok(text),
        _ => Err(invalid(path, &format!("it has more than {CONTROL_LINE_MAX_BYTES} bytes"))),
    }
}

/// One definition, as JSON or as TOML; a table copied from a configuration may keep its heading.
fn definition(path: &Path, text: &str, table: &str) -> Result<Value, Finding> {
    let value: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| invalid(path, &error.to_string()))?
    } else {
        toml::from_str(text).map_err(|error| invalid(path, &error.to_string()))?
    };
    match value.get(table).and_then(Value::as_array).map(Vec::as_slice) {
        // A machine's own key of this name is its list of disks, beside an id.
        _ if value.get("id").is_some() => Ok(value),
        Some([one]) => Ok(one.clone()),
        Some(several) => Err(invalid(path, &format!("it defines {} of them", several.len()))),
        None => Err(invalid(path, "it has no id")),
    }
}

fn invalid(path: &Path, why: &str) -> Finding {
    let evidence = format!("{}: {why}", path.display());
    let remedy = "give one definition with the keys of docs/config.md, such as id = \"web01\"";
    Finding::error(Code::RequestInvalid, evidence).with_remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_toml_or_json_with_or_without_its_heading() {
        let read = |text, table| definition(Path::new("x"), text, table);
        let machine = serde_json::json!({ "id": "web01", "disk": [{ "id": "disk0", "path": "/d" }] });
        for text in [
            "id = 'web01'\ndisk = [{ id = 'disk0', path = '/d' }]",
            "[[machine]]\nid = 'web01'\n[[machine.disk]]\nid = 'disk0'\npath = '/d'",
            r#" {"id":"web01","disk":[{"id":"disk0","path":"/d"}]}"#,
        ] {
            assert_eq!(read(text, "machine").as_ref(), Ok(&machine), "{text}");
        }
        assert_eq!(read("[[disk]]\nid = 'disk0'\npath = '/d'", "disk").as_ref(), Ok(&machine["disk"][0]));
        for (text, why) in [
            ("", "it has no id"),
            ("[[machine]]\nid = 'a'\n[[machine]]\nid = 'b'", "it defines 2 of them"),
            ("id = ", "TOML parse error"),
            ("{\"id\":", "EOF"),
        ] {
            let finding = read(text, "machine").expect_err(text);
            assert!(finding.code == Code::RequestInvalid && finding.evidence.contains(why), "{finding:?}");
        }
    }
}
