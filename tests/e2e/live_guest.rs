//! A guest of QEMU that runs and writes while its disk comes home: points in time by `tools/hooks/qemu-cycles`, read through
//! QEMU's own NBD server with our client, with what its dirty bitmaps name.

use crate::boot::{boot, lab_disk};
use crate::command::{project, qemu_img};
use crate::disks::folder;
use crate::sites::{Daemon, Sites, job, machine, merged, new_disk, target_machine};
use failback_image::Image;
use failback_model::{BlockSize, ByteRange, Layout};
use failback_remote::{OpenOptions, SourceSpec, changed_blocks, open, open_feed};
use failback_service::control::Request;
use failback_service::event::Event;
use failback_service::registry::CycleOutcome;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than the guest takes for any step.
const PATIENCE: Duration = Duration::from_secs(120);

/// A guest that runs; it ends with this value.
pub(crate) struct Guest {
    process: Child,
    folder: PathBuf,
}

impl Guest {
    /// Starts the lab's disk, as a qcow2 in `folder`, to write `writes` times, once a second; returns when it has begun to.
    pub(crate) fn start(folder: &Path, writes: u32) -> Self {
        let lab = project().join("target/lab");
        let system = lab.join("root/usr");
        let kernel = fs::read_to_string(lab.join("kernel-version")).expect("tools/lab/fetch says it");
        let disk = folder.join("guest.qcow2");
        qemu_img(&["convert", "-O", "qcow2"], &[&lab_disk(), &disk]);
        let option = |name: &str, value: String| [name.to_owned(), value];
        let at = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new(system.join("bin/qemu-system-x86_64"));
        command
            .env("LD_LIBRARY_PATH", [system.join("lib/x86_64-linux-gnu"), lab.join("root/lib/x86_64-linux-gnu")].map(|path| path.display().to_string()).join(":"))
            .env("QEMU_MODULE_DIR", system.join("lib/x86_64-linux-gnu/qemu"))
            .args(["share/qemu", "share/seabios", "lib/ipxe/qemu"].iter().flat_map(|path| option("-L", system.join(path).display().to_string())))
            .args("-machine pc -accel tcg -cpu max -m 256 -nodefaults -no-user-config -display none -no-reboot -no-shutdown".split(' '))
            .args(option("-serial", format!("file:{}", at("serial.log"))))
            .args(option("-qmp", format!("unix:{},server=on,wait=off", at("qmp.sock"))))
            .args(option("-blockdev", format!("driver=qcow2,node-name=d0,file.driver=file,file.filename={}", disk.display())))
            .args(["-device", "pvscsi,id=bus", "-device", "scsi-hd,bus=bus.0,drive=d0"])
            .args(option("-kernel", lab.join("root/boot").join(format!("vmlinuz-{}", kernel.trim())).display().to_string()))
            .args(option("-initrd", lab.join("initrd.gz").display().to_string()))
            .args(option("-append", format!("console=ttyS0 panic=-1 quiet labwrite={writes}")))
            .stdin(Stdio::null());
        let guest =
            Self { process: command.spawn().expect("tools/lab/fetch brings QEMU"), folder: folder.into() };
        guest.wait_for_writes(1);
        guest
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("serial.log")).unwrap_or_default()).into_owned()
    }

    /// How often it has written.
    pub(crate) fn writes(&self) -> usize {
        self.console().matches("LAB-WRITE").count()
    }

    /// Waits until it has written so often.
    pub(crate) fn wait_for_writes(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.writes() < count {
            assert!(Instant::now() < until, "the guest does not write:\n{}", self.console());
            std::thread::yield_now();
        }
    }

    /// The hook's command line, without its verb.
    pub(crate) fn hook(&self) -> Vec<String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let program = project().join("tools/hooks/qemu-cycles").display().to_string();
        let options =
            ["--qmp", &at("qmp.sock"), "--nbd", &at("nbd.sock"), "--folder", &at("overlays"), "--disk", "d0"];
        std::iter::once(program).chain(options.map(Into::into)).collect()
    }

    fn run(&self, verb: &str, cycle: u64, base: Option<u64>, retire: &str) -> Output {
        let hook = self.hook();
        Command::new(&hook[0])
            .args(&hook[1..])
            .arg(verb)
            .env("FAILBACK_CYCLE", cycle.to_string())
            .env("FAILBACK_BASE_CYCLE", base.map(|base| base.to_string()).unwrap_or_default())
            .env("FAILBACK_RETIRE", retire)
            .output()
            .expect("python3 runs")
    }

    #[track_caller]
    fn must(&self, verb: &str, cycle: u64, base: Option<u64>, retire: &str) -> String {
        let output = self.run(verb, cycle, base, retire);
        assert!(output.status.success(), "{verb} {cycle}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn point(&self, cycle: u64) -> SourceSpec {
        let uri = format!("nbd+unix:///pit{cycle}?socket={}", self.folder.join("nbd.sock").display());
        SourceSpec::parse(uri).expect("a URI")
    }

    /// Bytes that the bitmap since `base` names at a point.
    fn changed(&self, cycle: u64, base: u64) -> Vec<ByteRange> {
        let feed = format!("bitmap:since{base}").parse().expect("a feed");
        let feed = open_feed(&feed, &self.point(cycle), &OpenOptions::default());
        let feed = feed.unwrap_or_else(|finding| panic!("{}", finding.evidence));
        let length = fs::metadata(lab_disk()).expect("it is there").len();
        let layout = Layout::new(length, BlockSize::DEFAULT).expect("a layout");
        let blocks = changed_blocks(&*feed, layout).expect("named");
        blocks.into_iter().map(|blocks| layout.bytes_of(blocks)).collect()
    }

    fn opened(&self, cycle: u64) -> Arc<dyn Image> {
        let source = open(&self.point(cycle), &OpenOptions::default());
        source.unwrap_or_else(|finding| panic!("{}", finding.evidence))
    }

    /// Brings parts of a replica to a point, and says whether all of it is the point's then.
    fn bring(&self, cycle: u64, replica: &Path, parts: &[ByteRange]) -> bool {
        let source = self.opened(cycle);
        let file = File::options().create(true).truncate(false).write(true).open(replica).expect("opened");
        file.set_len(source.geometry().length_bytes).expect("as long");
        for part in parts {
            let mut bytes = vec![0; part.length_bytes() as usize];
            source.read_at(part.start(), &mut bytes).expect("read");
            file.write_all_at(&bytes, part.start()).expect("written");
        }
        self.is_at(cycle, replica)
    }

    /// Whether a raw disk is what the guest's was at a point.
    pub(crate) fn is_at(&self, cycle: u64, disk: &Path) -> bool {
        let (source, file) = (self.opened(cycle), File::open(disk).expect("opened"));
        let length = source.geometry().length_bytes;
        let (mut theirs, mut ours) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        file.metadata().expect("its length").len() == length
            && (0..length).step_by(1 << 20).all(|at| {
                source.read_at(at, &mut theirs).expect("read");
                file.read_exact_at(&mut ours, at).expect("read");
                theirs == ours
            })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn whole(path: &Path) -> Vec<ByteRange> {
    vec![ByteRange::new(0, fs::metadata(path).expect("it is there").len())]
}

#[test]
fn what_its_bitmaps_name_brings_each_point_home_also_after_a_cycle_that_failed() {
    let folder = folder();
    let guest = Guest::start(folder.path(), 600);
    let replica = folder.path().join("replica.raw");

    // The first: no base, no bitmap; what is read stays as it was, however much the guest writes.
    guest.must("snapshot", 1, None, "");
    assert!(guest.bring(1, &replica, &whole(&lab_disk())));
    guest.wait_for_writes(guest.writes() + 2);
    assert!(guest.bring(1, &replica, &[]), "the point stands still");
    guest.must("after-seal", 1, Some(1), "1");
    assert!(open(&guest.point(1), &OpenOptions::default()).is_err(), "it is retired");

    // The second is taken and never sealed; what was written before and after it counts for the third.
    guest.wait_for_writes(guest.writes() + 2);
    guest.must("snapshot", 2, Some(1), "");
    let second = guest.changed(2, 1);
    guest.wait_for_writes(guest.writes() + 2);
    // The hook is run once more for the same cycle, as after a crash of the process server.
    guest.must("snapshot", 2, Some(1), "");
    guest.wait_for_writes(guest.writes() + 2);
    let said = guest.must("snapshot", 3, Some(1), "");
    assert!(said.contains("since cycle 1"), "{said}");
    let third = guest.changed(3, 1);
    let sum = |ranges: &[ByteRange]| ranges.iter().map(|range| range.length_bytes()).sum::<u64>();
    assert!(sum(&third) >= sum(&second) && sum(&third) < 64 << 20, "{} then {}", sum(&second), sum(&third));
    assert!(!guest.bring(3, &replica, &[]), "the guest wrote");
    assert!(guest.bring(3, &replica, &third), "nothing is missing");
    guest.must("after-seal", 3, Some(3), "2,3");

    // The last, of a guest that is halted.
    guest.wait_for_writes(guest.writes() + 2);
    let mut halted = guest.hook();
    halted.push("--pause".into());
    let stopped = Command::new(&halted[0]).args(&halted[1..]).arg("stop").output().expect("it runs");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    guest.must("snapshot", 4, Some(3), "");
    assert!(guest.bring(4, &replica, &guest.changed(4, 3)));
    guest.must("after-seal", 4, Some(4), "4");
    assert_eq!(
        fs::read_dir(folder.path().join("overlays")).expect("listed").count(),
        0,
        "no overlay is left"
    );

    // A base that QEMU has no bitmap of is not made up.
    let said = guest.must("snapshot", 5, Some(3), "");
    assert!(said.contains("everything is read"), "{said}");
    guest.must("after-seal", 5, Some(4), "5");
    let before = guest.writes();
    guest.must("start", 5, None, "");
    guest.wait_for_writes(before + 1);
    drop(guest);
    assert_eq!(boot("pvscsi", "raw", &replica), "boots=2 payload=ok driver=vmw_pvscsi");
}

/// Waits until a cycle is closed; what it came to.
fn closed(ps: &mut Daemon, number: u64) -> CycleOutcome {
    ps.wait(&format!("cycle {number} is closed"), |event| match event {
        Event::CycleClosed { outcome, findings, .. } if outcome.number == number => {
            assert!(findings.is_empty(), "{findings:?}");
            Some(outcome.clone())
        }
        Event::CycleFailed { finding, .. } => panic!("{finding:?}"),
        _ => None,
    })
}

#[test]
fn cycles_bring_a_guest_home_while_it_writes_and_the_last_one_boots() {
    let sites = Sites::new();
    let guest = Guest::start(&sites.path(""), 600);
    let home = sites.path("home.raw");
    let mut mt = sites.master_target(&[target_machine("app01", &[new_disk("disk0", &home)])], &json!({}));
    let hook = |verb: &[&str]| {
        let words = guest.hook().into_iter().chain(verb.iter().map(|word| (*word).to_owned()));
        words.collect::<Vec<_>>()
    };
    let source = format!("nbd+unix:///pit{{cycle}}?socket={}", sites.path("nbd.sock").display());
    let disk = json!({"id": "disk0", "source": source, "feed": "bitmap:since{base}", "threads": 2});
    let hooks = json!({
        "snapshot": hook(&["snapshot"]), "after_seal": hook(&["after-seal"]),
        "stop_source": hook(&["--pause", "stop"]), "start_source": hook(&["start"]),
    });
    let mut ps = sites.process_server(&[merged(sites.source_machine("app01", &[disk]), &hooks)], &json!({}));

    ps.reprotect("app01");
    let first = closed(&mut ps, 1);
    assert!(guest.is_at(1, &home), "the first cycle");
    for number in 2..5 {
        guest.wait_for_writes(guest.writes() + 3);
        let is_final = number == 4;
        ps.order(&Request::Cycle { job: job(), machine: machine("app01"), is_final });
        let outcome = closed(&mut ps, number);
        assert!(outcome.shipped_bytes > 256 << 10, "the guest wrote: {outcome:?}");
        assert!(outcome.read_bytes < first.read_bytes, "what is read is what its bitmap names: {outcome:?}");
        assert!(guest.is_at(number, &home), "cycle {number}");
        assert!(
            open(&guest.point(number - 1), &OpenOptions::default()).is_err(),
            "the one before is retired"
        );
    }
    assert_eq!(mt.disk("app01", "disk0").point_label.as_deref(), Some("final"));
    assert!(mt.terminate().success() && ps.terminate().success());
    drop(guest);
    assert_eq!(boot("pvscsi", "raw", &home), "boots=2 payload=ok driver=vmw_pvscsi");
}
