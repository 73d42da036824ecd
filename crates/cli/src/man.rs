//! `failback man`: the manual, made from the command line itself, with every exit code and every FB code.

use crate::args::{Cli, ManArgs};
use crate::report::{Nothing, Voice, print, unheard};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use failback_model::{Code, ExitClass, Finding};
use std::fs;
use std::io;
use std::path::Path;

const EXITS: [(ExitClass, &str); 7] = [
    (ExitClass::Success, "Done. Warnings may have been printed."),
    (ExitClass::Failure, "Failed for a reason of the machine or of this program."),
    (ExitClass::Usage, "The command line is wrong."),
    (ExitClass::Refused, "Refused before anything was written. All reasons are printed at once."),
    (ExitClass::Interrupted, "Failed on the way. Run the same command again once the cause is gone."),
    (ExitClass::Mismatch, "Contents are not what they must be."),
    (ExitClass::Signal, "Stopped by SIGINT, SIGTERM or SIGHUP. Run the same command again to finish."),
];

/// What `--json` says beyond what all commands say.
const FIELDS: [(&str, &str); 10] = [
    (
        "sync, image convert",
        "source, target, strategy (original-location, alternate-location), virtual_size_bytes (what is compared: the \
         source's length, less an excess of zeros that stays away), block_size_bytes, blocks_total, blocks_differing, \
         blocks_repaired, bytes_read_source, bytes_read_target, bytes_read_seeds, bytes_to_target and bytes_to_source \
         (encoded frames, as they would cross a wire), bytes_written, pages_shipped, zero_bytes, seed_bytes, \
         verified_bytes, full_copy_bytes, egress_saved_bytes, root, verified, elapsed_seconds, seconds_per_stage, \
         limiting_stage. All are there however the pass ended; root is null unless it finished.",
    ),
    (
        "sync --dry-run",
        "source, target, strategy, virtual_size_bytes, target_size_bytes (after the pass), block_size_bytes, \
         blocks_total; source_disk and target_disk with format, uuid, content_id, disk_id, virtual_size_bytes, \
         sector_size_bytes, provisioning, generation and root (null: found by scanning); create with format, \
         provisioning and adapter_type of a new target; read_source_bytes, read_target_bytes, read_seeds_bytes, \
         read_verify_bytes, ship_at_most_bytes (a bound, frames included), ship_estimate_bytes and sampled_blocks, \
         seconds_estimate with assumed_read_bytes_per_second and assumed_write_bytes_per_second.",
    ),
    (
        "hash",
        "image, format, root, block_size_bytes, virtual_size_bytes, blocks_total, bytes_read_source, manifest, \
         elapsed_seconds, seconds_per_stage, limiting_stage; length_bytes and bytes_read repeat two of them under the \
         names of the text.",
    ),
    ("image check", "image, format (null where it does not open), faults, warnings."),
    (
        "reprotect, stop, resume, verify, register, release, bandwidth, reload",
        "job, repeated (whether the same job was carried out before), said (what was done, in words).",
    ),
    (
        "cutover, cancel, commit, points drop",
        "job, repeated, said, plan (what was shown before), ended (with --wait, of each machine: machine, point, outcome, \
         said). With --dry-run only plan, as docs/control.md describes it under plan.",
    ),
    ("points list", "machine, recovery, points, as docs/control.md describes them under points."),
    ("points show", "machine, point."),
    (
        "status",
        "daemon_status, as docs/control.md describes it under Status. With --watch one such line each time; where the \
         daemon does not answer, a line without daemon_status whose findings say why.",
    ),
    ("events", "Before it one event a line, as docs/control.md describes them under Events."),
];

/// Prints the main page, or writes all pages.
pub(crate) fn run(args: &ManArgs) -> ExitClass {
    let voice = Voice { command: "man", json: false, quiet: false };
    let done = match &args.dir {
        Some(dir) => write_pages(dir).map_err(|error| Finding::error(Code::CreateFailed, error)),
        None => main_page().and_then(|page| print(&page)).map_err(|error| unheard(&error)),
    };
    match done {
        Ok(()) => voice.finish("done", &Nothing {}, &[]),
        Err(finding) => voice.fail(&[finding]),
    }
}

fn write_pages(dir: &Path) -> Result<(), String> {
    let write = |name: &str, page: io::Result<String>| {
        let path = dir.join(format!("{name}.1"));
        page.and_then(|page| fs::write(&path, page)).map_err(|error| format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    write("failback", main_page())?;
    for command in leaves(&built()) {
        write(name_of(command), leaf_page(command))?;
    }
    Ok(())
}

/// The whole command line with full names (`failback-image-info`) filled in.
fn built() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Commands that do something, however deep.
fn leaves(command: &Command) -> Vec<&Command> {
    if command.get_subcommands().next().is_none() {
        return vec![command];
    }
    command.get_subcommands().flat_map(leaves).collect()
}

fn main_page() -> io::Result<String> {
    let command = built();
    let man = Man::new(command.clone()).manual("Failback Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for leaf in leaves(&command) {
        let about = leaf.get_about().map(ToString::to_string).unwrap_or_default();
        item(&mut roff, &name_of(leaf).replace('-', " "), &format!("{about}. See {}(1).", name_of(leaf)));
    }
    notes_and_examples(&mut roff, &command);
    roff.control("SH", ["OUTPUT"]);
    roff.text([roman(
        "Results go to standard output, progress and findings to standard error. With --json, exactly one JSON \
         object on one line goes to standard output when the command ends, however it ends, with at least \
         command, status (done, planned, refused, interrupted, failed), exit_code, version and findings (code, \
         severity, title, evidence, remedy; operation, path, offset_bytes and reason where they are known).",
    )]);
    for (what, fields) in FIELDS {
        item(&mut roff, what, fields);
    }
    exit_status(&mut roff);
    codes(&mut roff);
    page.extend(roff.to_roff().into_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn leaf_page(command: &Command) -> io::Result<String> {
    let man = Man::new(command.clone()).manual("Failback Manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    notes_and_examples(&mut roff, command);
    exit_status(&mut roff);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("failback"), roman("(1), which explains every FB code")]);
    page.extend(roff.to_roff().into_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What `--help` says behind the options: notes, then the examples. Exit codes have a section of their own.
fn notes_and_examples(roff: &mut Roff, command: &Command) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (examples, notes): (Vec<_>, Vec<_>) =
        help.split("\n\n").partition(|part| part.starts_with("Examples:"));
    let notes: Vec<_> = notes.into_iter().filter(|note| !note.starts_with("Exit codes:")).collect();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(notes.join("\n\n"))]);
    }
    for lines in examples {
        roff.control("SH", ["EXAMPLES"]);
        roff.control("nf", []);
        roff.text([roman(lines.trim_start_matches("Examples:\n"))]);
        roff.control("fi", []);
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (class, meaning) in EXITS {
        item(roff, &class.code().to_string(), meaning);
    }
}

fn codes(roff: &mut Roff) {
    roff.control("SH", ["CODES"]);
    roff.text([roman(
        "A code keeps its meaning for ever. The number in brackets is the exit status of an error.",
    )]);
    for code in Code::ALL {
        let meaning = format!("{} [{}]. Remedy: {}.", code.title(), code.exit().code(), code.remedy());
        item(roff, code.as_str(), &meaning);
    }
}

fn item(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(meaning)]);
}
