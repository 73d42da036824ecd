//! Every error that a user can meet on a small disk, word for word, as text and as JSON side by side.

use crate::lab::Lab;
use failback_image::{Access, CreateOptions, Image, ImageSpec, VmdkType};
use serde_json::Value;
use std::fmt::Write;
use std::sync::Arc;

/// What is held while the command runs.
type Held = Option<Arc<dyn Image>>;

/// A situation: its name, how it comes about, the command, its exit code.
struct Case(&'static str, fn(&Lab) -> Held, &'static [&'static str], i32);

const CASES: &[Case] = &[
    Case("101 no known extension", |lab| file(lab, "disk", b"x"), &["hash", "disk"], 3),
    Case("102 content is another", |lab| file(lab, "d.vmdk", &[0; 1024]), &["hash", "d.vmdk"], 3),
    Case("103 table past the end", |lab| cut(lab, 600), &["hash", "sparse.vmdk"], 3),
    Case("104 snapshot delta", |lab| file(lab, "d.vmdk", &cow()), &["image", "info", "d.vmdk"], 3),
    Case("105 streamOptimized in place", stream, &["sync", "source.raw", "stream.vmdk"], 3),
    Case(
        "106 extent outside of its folder",
        |lab| descriptor(lab, "RW 2048 VMFS \"../../etc/passwd\"", ""),
        &["image", "info", "d.vmdk"],
        3,
    ),
    Case("107 base of a snapshot", snapshot, &["sync", "source.raw", "d.vmdk"], 3),
    Case("108 size of no VMDK", |lab| file(lab, "s.raw", &[1; 700]), &["sync", "s.raw", "new.vmdk"], 3),
    Case(
        "109 target of convert exists",
        |lab| disk(lab, "t.raw"),
        &["image", "convert", "source.raw", "t.raw"],
        3,
    ),
    Case("109 manifest exists", |lab| file(lab, "m", b"x"), &["hash", "--manifest", "m", "source.raw"], 3),
    Case("110 not closed cleanly", unclean, &["image", "check", "sparse.vmdk"], 0),
    Case("111 damaged", |lab| cut(lab, 600), &["image", "check", "sparse.vmdk"], 5),
    Case("201 nothing there", |_| None, &["sync", "absent.raw", "new.raw"], 3),
    Case("201 no such device", |_| None, &["hash", "/dev/failback-none"], 3),
    Case("201 a folder", folder, &["sync", "source.raw", "folder"], 3),
    Case("207 folder missing", |_| None, &["sync", "source.raw", "missing/new.raw"], 3),
    Case("207 file among devices", |_| None, &["sync", "source.raw", "raw:/dev/failback-none"], 3),
    Case(
        "207 sparse and eager",
        |_| None,
        &["image", "create", "--vmdk-type", "monolithicSparse", "--provisioning", "eager", "new.vmdk", "1M"],
        3,
    ),
    Case("301 in use", held, &["sync", "source.raw", "t.raw"], 3),
    Case("305 another disk", |lab| noise(lab, "t.raw", 4 << 20), &["sync", "big.raw", "t.raw"], 3),
    Case("306 too small", |lab| noise(lab, "t.raw", 65_536), &["sync", "source.raw", "t.raw"], 3),
    Case("306 too small and cannot grow", sparse, &["sync", "big.raw", "sparse.vmdk"], 3),
    Case("104 grow what cannot", sparse, &["sync", "--grow", "big.raw", "sparse.vmdk"], 3),
    Case("308 one file", |_| None, &["sync", "source.raw", "./source.raw"], 3),
    Case("309 310 and 901", trimmed, &["sync", "--dry-run", "--vmdk-type", "vmfs", "long.raw", "t.raw"], 0),
    Case(
        "310 target is longer",
        |lab| file(lab, "t.raw", &vec![0; 400_000]),
        &["sync", "source.raw", "t.raw"],
        0,
    ),
    Case("311 tracked changes", tracked, &["sync", "--accept-mismatch", "mib.raw", "d.vmdk"], 0),
    Case("401 block size", |_| None, &["hash", "--block-size", "48K", "source.raw"], 2),
    Case(
        "405 seed is the target",
        |lab| disk(lab, "t.raw"),
        &["sync", "source.raw", "t.raw", "--seed", "t.raw"],
        3,
    ),
    Case("405 seed is the source", |_| None, &["sync", "source.raw", "new.raw", "--seed", "source.raw"], 0),
    Case("901 command line", |_| None, &["sync", "source.raw"], 2),
];

#[test]
fn every_error_reads_well_and_says_the_same_in_json() {
    let mut table = String::new();
    for Case(name, prepare, words, code) in CASES {
        let said = |words: &[&str]| {
            let lab = Lab::new();
            lab.noise("source.raw", 1, 300 << 10);
            lab.noise("big.raw", 2, 4 << 20);
            lab.noise("mib.raw", 3, 1 << 20);
            let _held = prepare(&lab);
            lab.run(words)
        };
        let text = said(words).text(*code);
        let json = said(&[words, &["--json"][..]].concat()).json(*code);
        let _ = write!(table, "== {name}\n$ failback {}\n{}", words.join(" "), masked(&text.stderr));
        for finding in json["findings"].as_array().expect("a list") {
            assert_in_text(finding, &text.stderr);
            let _ = writeln!(table, "{}", masked(&finding.to_string()));
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

/// Who holds a file is another process every time.
fn masked(text: &str) -> String {
    let parts: Vec<_> = text.split(") holds it").collect();
    let (last, held) = parts.split_last().expect("there is always one");
    let before = held.iter().map(|part| part.rsplit_once("cli-").map_or(*part, |(before, _)| before));
    before.map(|part| format!("{part}HOLDER holds it")).collect::<String>() + last
}

/// What is in the JSON is in the text.
#[track_caller]
fn assert_in_text(finding: &Value, text: &str) {
    for field in ["code", "severity", "title", "evidence", "remedy", "path", "reason", "operation"] {
        let Some(value) = finding[field].as_str() else { continue };
        // Paths of a disk's files may be said by their bare names.
        let value = if field == "path" { value.trim_start_matches("./") } else { value };
        if value.contains(") holds it") {
            continue;
        }
        for line in value.lines().filter(|line| !line.is_empty()) {
            // A usage line names the options that were given.
            let line = line.replace(" --json", "");
            assert!(text.contains(&line), "{field} {line:?} of {finding} in {text}");
        }
    }
    if let Some(offset) = finding["offset_bytes"].as_u64() {
        assert!(text.contains(&format!("byte {offset}")), "{offset} in {text}");
    }
}

fn file(lab: &Lab, name: &str, bytes: &[u8]) -> Held {
    lab.write(name, bytes);
    None
}

fn noise(lab: &Lab, name: &str, length_bytes: u64) -> Held {
    lab.noise(name, 9, length_bytes);
    None
}

/// The source's bytes.
fn disk(lab: &Lab, name: &str) -> Held {
    file(lab, name, &lab.read("source.raw"))
}

fn folder(lab: &Lab) -> Held {
    std::fs::create_dir(lab.path("folder")).expect("made");
    None
}

fn cow() -> Vec<u8> {
    [&b"COWD"[..], &[0; 1020]].concat()
}

/// The source's bytes, block after block, so that its grains lie in their order.
fn sparse(lab: &Lab) -> Held {
    let bytes = lab.read("source.raw");
    let options =
        CreateOptions { vmdk_type: VmdkType::MonolithicSparse, ..CreateOptions::new(bytes.len() as u64) };
    let image = failback_image::create(&ImageSpec::from(lab.path("sparse.vmdk")), &options).expect("made");
    for (index, grain) in bytes.chunks(65_536).enumerate() {
        image.write_at(index as u64 * 65_536, grain).expect("written");
    }
    image.close().expect("closed");
    None
}

fn stream(lab: &Lab) -> Held {
    lab.run(&["image", "convert", "--vmdk-type", "streamOptimized", "source.raw", "stream.vmdk"]).text(0);
    None
}

/// A sparse image that lost its end.
fn cut(lab: &Lab, kib: usize) -> Held {
    sparse(lab);
    let bytes = lab.read("sparse.vmdk");
    let kept = bytes.len().saturating_sub(kib << 10).max(65_536);
    file(lab, "sparse.vmdk", &bytes[..kept])
}

fn unclean(lab: &Lab) -> Held {
    sparse(lab);
    let mut bytes = lab.read("sparse.vmdk");
    bytes[72] = 1;
    file(lab, "sparse.vmdk", &bytes)
}

fn descriptor(lab: &Lab, extent: &str, more: &str) -> Held {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=7f3ac1d9\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\n{extent}\n\n{more}\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    file(lab, "d.vmdk", text.as_bytes())
}

fn flat(lab: &Lab, more: &str) -> Held {
    lab.write("d-flat.vmdk", &vec![0; 1 << 20]);
    descriptor(lab, "RW 2048 VMFS \"d-flat.vmdk\"", more)
}

fn snapshot(lab: &Lab) -> Held {
    let text = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=7f3ac1d9\ncreateType=\"vmfsSparse\"\n\
                parentFileNameHint=\"d.vmdk\"\n\nRW 2048 VMFSSPARSE \"d-000001-delta.vmdk\"\n";
    lab.write("d-000001.vmdk", text.as_bytes());
    flat(lab, "")
}

fn tracked(lab: &Lab) -> Held {
    flat(lab, "changeTrackPath=\"d-ctk.vmdk\"")
}

fn trimmed(lab: &Lab) -> Held {
    let bytes = lab.read("source.raw");
    lab.write("t.raw", &bytes);
    file(lab, "long.raw", &[bytes, vec![0; 65_536]].concat())
}

fn held(lab: &Lab) -> Held {
    disk(lab, "t.raw");
    let path = lab.path("t.raw");
    Some(failback_image::open(&ImageSpec::from(path), Access::Write).expect("nobody else has it"))
}
