//! What `sync` and `image create` do with targets of every kind, and what a kill leaves of them.

use crate::lab::Lab;
use failback_blockio::draft_of;
use failback_testkit::{LoopDevice, run};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Makes a disk of another format with qemu-img.
fn convert(lab: &Lab, format: &str, options: &str, from: &str, to: &str) {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", format]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    let output = command.arg(lab.path(from)).arg(lab.path(to)).output();
    let output = output.expect("this test needs qemu-img (qemu-utils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts a creation and strikes it as soon as the first of its files is there under any name.
fn struck(lab: &Lab, words: &[&str], first: &str, signal: Signal) -> Child {
    let mut child =
        lab.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (path, draft) = (lab.path(first), draft_of(&lab.path(first)));
    let is_running = |child: &mut Child| child.try_wait().expect("it can be asked").is_none();
    while !path.exists() && !draft.exists() && is_running(&mut child) {
        std::thread::yield_now();
    }
    assert!(!path.exists(), "{first} has its name before it is whole");
    kill_process(Pid::from_child(&child), signal).expect("our own child");
    child
}

#[test]
fn a_creation_that_is_killed_is_no_obstacle_to_the_next() {
    let lab = Lab::new();
    lab.noise("source.raw", 41, 3 << 20);
    for (target, options, files) in [
        ("disk.raw", &[][..], &["disk.raw"][..]),
        ("disk.vhd", &[], &["disk.vhd"]),
        ("disk.vmdk", &[], &["disk-flat.vmdk", "disk.vmdk"]),
        (
            "split.vmdk",
            &["--vmdk-type", "twoGbMaxExtentFlat"],
            &["split-f001.vmdk", "split-f002.vmdk", "split.vmdk"],
        ),
    ] {
        // Far more zeros than are written before the kill arrives.
        let create = [&["image", "create", "--provisioning", "eager", target, "3G"], options].concat();
        let mut child = struck(&lab, &create, files[0], Signal::KILL);
        assert_eq!(child.wait().expect("it ends").signal(), Some(9), "{target}");
        let left = lab.names();
        assert!(left.iter().all(|name| !files.contains(&name.as_str())), "{target}: {left:?}");
        let sync = [&["sync", "--verify", "--provisioning", "eager", "source.raw", target], options].concat();
        lab.run(&sync).text(0);
        let mut kept: Vec<_> = files.iter().map(|file| (*file).to_owned()).collect();
        kept.retain(|file| lab.path(file).exists());
        let mut expected = [&kept[..], &["source.raw".into()]].concat();
        expected.sort();
        assert_eq!(lab.names(), expected, "{target}: no draft is left");
        let again = lab.run(&["sync", "--json", "source.raw", target]).json(0);
        assert_eq!(again["blocks_differing"], 0, "{target}");
        kept.iter().for_each(|file| std::fs::remove_file(lab.path(file)).expect("removed"));
    }
}

#[test]
fn a_creation_that_is_interrupted_leaves_nothing() {
    let lab = Lab::new();
    for (target, first) in [("disk.raw", "disk.raw"), ("disk.vmdk", "disk-flat.vmdk")] {
        let child =
            struck(&lab, &["image", "create", "--provisioning", "eager", target, "3G"], first, Signal::INT);
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(130), "{target}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("error[FB403]"), "{target}: {said}");
        assert!(lab.names().is_empty(), "{target}: {:?}", lab.names());
    }
}

#[test]
fn a_stream_that_is_killed_is_no_obstacle_to_the_next() {
    let lab = Lab::new();
    lab.noise("source.raw", 42, 64 << 20);
    let words = ["sync", "--vmdk-type", "streamOptimized", "source.raw", "stream.vmdk"];
    let mut child = struck(&lab, &words, "stream.vmdk", Signal::KILL);
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    assert!(!lab.path("stream.vmdk").exists());
    lab.run(&words).text(0);
    assert_eq!(lab.names(), ["source.raw", "stream.vmdk"]);
}

#[test]
fn large_sectors_are_not_created_as_small_ones() {
    let lab = Lab::new();
    lab.noise("disk", 43, 4 << 20);
    let disk = LoopDevice::attach(&lab.path("disk"), 4096);
    let source = disk.path().to_str().expect("names of devices are ASCII");
    let before = lab.names();
    for target in ["new.raw", "new.vhd", "new.vmdk"] {
        for words in [&["sync", source, target][..], &["image", "convert", source, target]] {
            let ended = lab.run(words).text(3);
            assert!(ended.stderr.contains("error[FB307]"), "{words:?}: {}", ended.stderr);
            assert_eq!(lab.names(), before);
        }
    }
}

#[test]
fn data_where_the_target_has_no_file_is_refused_in_the_plan() {
    let lab = Lab::new();
    lab.noise("source.raw", 44, 1 << 20);
    lab.write("data.bin", &lab.read("source.raw")[..512 << 10]);
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
                      createType=\"monolithicFlat\"\nRW 1024 FLAT \"data.bin\" 0\nRW 1024 ZERO\n";
    lab.write("target.vmdk", descriptor.as_bytes());
    let before = lab.state();
    for words in
        [&["sync", "source.raw", "target.vmdk"][..], &["sync", "--dry-run", "source.raw", "target.vmdk"]]
    {
        let ended = lab.run(words).text(3);
        assert!(ended.stderr.contains("error[FB105]"), "{}", ended.stderr);
        assert!(ended.stderr.contains("bytes 524288 to 1048576"), "{}", ended.stderr);
        assert_eq!(lab.state(), before);
    }
    let mut half = lab.read("source.raw");
    half[512 << 10..].fill(0);
    half[..16].fill(7);
    lab.write("half.raw", &half);
    lab.run(&["sync", "--verify", "half.raw", "target.vmdk"]).text(0);
    assert!(lab.read("data.bin") == half[..512 << 10]);
}

#[test]
fn a_disk_is_not_written_over_while_it_is_read_through_its_partition() {
    let lab = Lab::new();
    lab.noise("disk.raw", 48, 32 << 20);
    lab.write("layout", b"size=16M\nsize=8M\n");
    let layout = std::fs::File::open(lab.path("layout")).expect("opened");
    let mut sfdisk = Command::new("sfdisk");
    run(sfdisk.args(["--quiet", "--wipe=never", "--label", "gpt"]).arg(lab.path("disk.raw")).stdin(layout));
    let disk = LoopDevice::attach_with_partitions(&lab.path("disk.raw"));
    let (first, second) = (disk.partition(1), disk.partition(2));
    let [disk, first, second] =
        [disk.path(), &first, &second].map(|path| path.to_str().expect("names of devices are ASCII"));
    let before = lab.read("disk.raw");
    for (source, target) in [(first, disk), (disk, second), (disk, "disk.raw"), ("disk.raw", first)] {
        let words = ["sync", "--accept-mismatch", "--grow", source, target];
        let refused = lab.run(&words).text(3);
        assert!(refused.stderr.contains("error[FB308]"), "{source} to {target}: {}", refused.stderr);
    }
    assert!(lab.read("disk.raw") == before);
    lab.run(&["sync", "--accept-mismatch", "--verify", second, first]).text(0);
}

#[test]
fn a_created_image_has_the_identity_and_the_controller_that_are_named() {
    let lab = Lab::new();
    lab.disk("source.raw", 49, 1 << 20);
    let (rfc, esxi) =
        ("6000c29b-1f0a-7734-5c02-9e8d1044abf3", "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3");
    for (index, (given, adapter, written)) in
        [(rfc, "pvscsi", "lsilogic"), (esxi, "IDE", "ide"), (rfc, "buslogic", "buslogic")]
            .into_iter()
            .enumerate()
    {
        let options = ["--uuid", given, "--adapter-type", adapter];
        for command in [&["image", "create"][..], &["sync"], &["image", "convert"]] {
            let name = format!("{}{index}.vmdk", command.join("-"));
            let ends: &[&str] =
                if command == ["image", "create"] { &[&name, "1M"] } else { &["source.raw", &name] };
            lab.run(&[command, &options, ends].concat()).text(0);
            let info = lab.run(&["image", "info", "--json", &name]).json(0);
            assert_eq!((&info["uuid"], &info["adapter_type"]), (&esxi.into(), &written.into()), "{name}");
            let heads = if written == "ide" { "\"16\"" } else { "\"64\"" };
            let text = String::from_utf8(lab.read(&name)).expect("a descriptor");
            assert!(text.contains(&format!("ddb.geometry.heads = {heads}")), "{text}");
        }
    }
    lab.run(&["image", "create", "--uuid", esxi, "disk.vhd", "1M"]).text(0);
    assert_eq!(lab.run(&["image", "info", "--json", "disk.vhd"]).json(0)["uuid"], rfc);
    for wrong in ["", "60 00 C2", "6000c29b", "x\"\nRW 1 FLAT \"/etc/passwd\" 0"] {
        let refused = lab.run(&["image", "create", "--uuid", wrong, "wrong.vmdk", "1M"]).text(2);
        assert!(!lab.path("wrong.vmdk").exists(), "{}", refused.stderr);
    }
    lab.run(&["image", "create", "--adapter-type", "virtio", "wrong.vmdk", "1M"]).text(2);
}

#[test]
fn an_identity_or_a_controller_without_effect_is_named() {
    let lab = Lab::new();
    lab.disk("source.raw", 50, 1 << 20);
    let uuid = "6000c29b-1f0a-7734-5c02-9e8d1044abf3";
    let warnings = |words: &[&str]| {
        let ended = lab.run(words).text(0);
        ended.stderr.matches("warning[FB901]").count()
    };
    assert_eq!(warnings(&["sync", "--uuid", uuid, "--adapter-type", "ide", "source.raw", "new.raw"]), 2);
    assert_eq!(warnings(&["sync", "--uuid", uuid, "source.raw", "new.raw"]), 1, "it exists");
    assert_eq!(warnings(&["sync", "--adapter-type", "ide", "source.raw", "new.raw"]), 1, "it exists");
    assert_eq!(warnings(&["image", "create", "--uuid", uuid, "--adapter-type", "ide", "new.vhd", "1M"]), 1);
    assert_eq!(warnings(&["image", "convert", "--uuid", uuid, "source.raw", "copy.raw"]), 1);
    assert_eq!(warnings(&["image", "convert", "--uuid", uuid, "source.raw", "copy.vmdk"]), 0);
}

/// A disk of so many files of one sector each.
fn split_disk(lab: &Lab, name: &str, count: usize) {
    let mut text = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
                    createType=\"twoGbMaxExtentFlat\"\n"
        .to_owned();
    for index in 1..=count {
        let extent = format!("{name}-f{index:03}.vmdk");
        writeln!(text, "RW 1 FLAT \"{extent}\" 0").expect("text takes it");
        lab.write(&extent, &[index as u8; 512]);
    }
    lab.write(&format!("{name}.vmdk"), text.as_bytes());
}

#[test]
fn a_disk_of_many_files_is_opened_whatever_the_shell_allows() {
    let lab = Lab::new();
    split_disk(&lab, "many", 1500);
    let under = |limits: &str| {
        let failback = lab.command(&["hash", "many.vmdk"]);
        let script = format!("{limits}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(failback.get_program()).args(failback.get_args());
        let output = shell.current_dir(lab.path("")).env("NO_COLOR", "1").output().expect("a shell");
        crate::lab::Ended::from(output)
    };
    let root = lab.run(&["hash", "many.vmdk"]).text(0).stdout;
    assert_eq!(under("ulimit -S -n 1024").text(0).stdout, root);
    let refused = under("ulimit -n 1024").text(3);
    assert!(refused.stderr.contains("error[FB201]"), "{}", refused.stderr);
    assert!(refused.stderr.contains("ulimit -Hn"), "{}", refused.stderr);
}

#[test]
fn every_source_format_comes_home() {
    let lab = Lab::new();
    lab.disk("disk.raw", 45, (6 << 20) + 512);
    convert(&lab, "vpc", "subformat=dynamic,force_size=on", "disk.raw", "dynamic.vhd");
    convert(&lab, "vhdx", "", "disk.raw", "disk.vhdx");
    let root = |image: &str| lab.run(&["hash", "--json", image]).json(0)["root"].clone();
    // The formats round the length up to what they can hold; a target of that length has the rest zero.
    for source in ["dynamic.vhd", "disk.vhdx"] {
        for target in ["home.raw", "home.vmdk"] {
            lab.run(&["sync", "--verify", source, target]).text(0);
            assert_eq!(root(source), root(target), "{source} in {target}");
            // In place: a changed target comes back to the source's bytes.
            let flat = if target == "home.vmdk" { "home-flat.vmdk" } else { target };
            lab.write(flat, &lab.changed(flat, &[70_000, 3_000_000]));
            let again = lab.run(&["sync", "--json", source, target]).json(0);
            assert_eq!(again["blocks_differing"], 2, "{source} to {target}");
            assert_eq!(root(source), root(target));
            let bytes = lab.read(flat);
            assert!(bytes.starts_with(&lab.read("disk.raw")), "{source} in {target}");
            for file in [target, flat] {
                let _ = std::fs::remove_file(lab.path(file));
            }
        }
    }
}

#[test]
fn an_empty_disk_is_created_and_synced() {
    let lab = Lab::new();
    lab.write("empty.raw", b"");
    for target in ["home.raw", "home.vhd", "home.vmdk"] {
        let made = lab.run(&["sync", "--verify", "--json", "empty.raw", target]).json(0);
        assert_eq!((&made["virtual_size_bytes"], &made["blocks_total"]), (&0.into(), &0.into()), "{target}");
        let again = lab.run(&["sync", "--json", "empty.raw", target]).json(0);
        assert_eq!(made["root"], again["root"], "{target}");
    }
}

#[test]
fn a_longer_source_grows_the_target_or_leaves_its_zeros_behind() {
    let lab = Lab::new();
    lab.noise("long.raw", 46, 3 << 20);
    let whole = lab.read("long.raw");
    lab.write("short.raw", &whole[..1 << 20]);
    for (kind, target, data) in [
        ("", "short.vhd", "short.vhd"),
        ("vmfs", "short.vmdk", "short-flat.vmdk"),
        ("twoGbMaxExtentFlat", "split.vmdk", "split-f001.vmdk"),
    ] {
        let kind: &[&str] = if kind.is_empty() { &[] } else { &["--vmdk-type", kind] };
        lab.run(&[&["image", "convert", "short.raw", target], kind].concat()).text(0);
        let refused = lab.run(&["sync", "long.raw", target]).text(3);
        assert!(refused.stderr.contains("error[FB306]"), "{target}: {}", refused.stderr);
        lab.run(&["sync", "--grow", "--verify", "long.raw", target]).text(0);
        assert!(lab.read(data).starts_with(&whole), "{target}");
    }
    let mut trimmed = whole;
    trimmed[1 << 20..].fill(0);
    lab.write("trimmed.raw", &trimmed);
    let done = lab.run(&["sync", "--json", "trimmed.raw", "short.raw"]).json(0);
    assert_eq!(done["findings"][0]["code"], "FB309");
    assert!(lab.read("short.raw") == trimmed[..1 << 20]);
}

#[test]
fn thick_and_eager_targets_have_all_their_space() {
    let lab = Lab::new();
    lab.disk("source.raw", 47, 8 << 20);
    for (index, how) in ["thick", "eager"].into_iter().enumerate() {
        for target in ["raw", "vhd", "vmdk"].map(|format| format!("{how}{index}.{format}")) {
            lab.run(&["sync", "--verify", "--provisioning", how, "source.raw", &target]).text(0);
            let info = lab.run(&["image", "info", "--json", &target]).json(0);
            assert!(
                info["allocated_bytes"].as_u64().is_some_and(|bytes| bytes >= 8 << 20),
                "{target}: {info}"
            );
            assert_eq!(
                info["provisioning"], "thick",
                "what was zeroed cannot be told from what was reserved"
            );
        }
    }
    let data = lab.read("eager1-flat.vmdk");
    assert!(data == lab.read("source.raw"));
    assert_eq!(unwritten_bytes(&lab.path("eager1-flat.vmdk")), 0, "zeros were written");
}

/// Bytes of a file that are reserved and not written, as the file system lists them.
fn unwritten_bytes(path: &Path) -> u64 {
    let output = Command::new("filefrag").args(["-v", "-b1"]).arg(path).output();
    let output = output.expect("this test needs filefrag (e2fsprogs)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let unwritten = text.lines().filter(|line| line.contains("unwritten"));
    unwritten
        .map(|line| line.split(':').nth(3).and_then(|length| length.trim().parse::<u64>().ok()).unwrap_or(1))
        .sum()
}
