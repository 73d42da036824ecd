//! Two sites in network namespaces, with a link between them that is long, thin and lossy, and that goes down.

use super::{asked, assert_equal};
use crate::command::{project, run};
use crate::sites::{
    Daemon, Host, MASTER_TARGET, PATIENCE, Sites, merged, new_disk, source_disk, target_machine,
};
use failback_model::limits::IDLE_MAX;
use failback_service::event::Event;
use failback_service::status::DiskStatus;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a link is like; the delay is that of one way.
struct Link {
    delay_ms: u32,
    loss_percent: f64,
    rate_mbit: u32,
}

/// Two namespaces and the process that carries packets between them; gone when dropped.
struct Wan {
    names: [String; 2],
    emulator: Child,
}

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const DEVICE: &str = "wan";

/// The emulator, built with the C compiler that the project needs anyhow.
fn emulator() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("linkemu-{}", std::process::id()));
        let source = project().join("tools/lab/linkemu.c");
        run("cc", [Path::new("-O2"), Path::new("-o"), &to, &source]);
        to
    })
}

fn ip(arguments: &[&str]) {
    run("ip", arguments);
}

impl Wan {
    /// Needs root and a kernel with namespaces and TUN devices.
    fn new(link: &Link) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = ["az", "site"].map(|end| format!("failback-{}-{count}-{end}", std::process::id()));
        for name in &names {
            ip(&["netns", "add", name]);
        }
        let parameters =
            [link.delay_ms.to_string(), link.loss_percent.to_string(), link.rate_mbit.to_string()];
        let emulator = Command::new(emulator())
            .args([&names[0], DEVICE, &names[1], DEVICE])
            .args(parameters)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        // From here on it is taken down, whatever happens.
        let mut wan = Self { names, emulator };
        let mut said = String::new();
        let output = wan.emulator.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("it says something");
        assert_eq!(said, "ready\n", "the emulator cannot carry a link");
        for (name, address) in wan.names.iter().zip(ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", DEVICE]);
            ip(&["-n", name, "link", "set", DEVICE, "mtu", "1500", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        wan
    }

    fn host(&self, end: usize) -> Host {
        Host(["ip", "netns", "exec", &self.names[end]].map(str::to_owned).into())
    }

    /// Nothing crosses any more, and neither end is told.
    fn down(&mut self) {
        self.command(b"d");
    }

    fn up(&mut self) {
        self.command(b"u");
    }

    /// Bytes that the first end has sent.
    fn crossed_bytes(&self) -> u64 {
        let counter = format!("/sys/class/net/{DEVICE}/statistics/tx_bytes");
        let told = Command::new("ip").args(["netns", "exec", &self.names[0], "cat", &counter]).output();
        let told = String::from_utf8(told.expect("ip runs").stdout).expect("a number");
        told.trim().parse().expect("a number")
    }

    fn command(&mut self, letter: &[u8]) {
        let mut input = self.emulator.stdin.as_ref().expect("it is piped");
        input.write_all(letter).expect("it listens");
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        // It ends with its input, and the devices with it.
        drop(self.emulator.stdin.take());
        let _ended = self.emulator.wait();
        for name in &self.names {
            let deleted = Command::new("ip").args(["netns", "delete", name]).status();
            if !deleted.is_ok_and(|status| status.success()) {
                eprintln!("{name} is still there");
            }
        }
    }
}

/// A disk of random bytes at one end, and both daemons.
struct Lab {
    length_bytes: u64,
    source: PathBuf,
    target: PathBuf,
    mt: Daemon,
    ps: Daemon,
    wan: Wan,
    _sites: Sites,
}

impl Lab {
    fn new(seed: u64, length_bytes: u64, link: &Link) -> Self {
        let wan = Wan::new(link);
        let sites = Sites::new();
        let source = sites.random_disk("source.raw", seed, length_bytes);
        let target = sites.path("target.raw");
        let mt = sites.master_target_on(
            &[target_machine("app01", &[new_disk("disk0", &target)])],
            &json!({"listen": format!("{}:9443", ADDRESSES[1]), "admin": "off"}),
            wan.host(1),
        );
        let machine = json!({
            "id": "app01", "target": format!("{}:9443", ADDRESSES[1]), "target_identity": MASTER_TARGET,
            "disk": [merged(source_disk("disk0", &source), &json!({"compression": "off"}))],
        });
        let ps = sites.process_server_as(crate::sites::PROCESS_SERVER, &[machine], &json!({}), wan.host(0));
        Self { length_bytes, source, target, mt, ps, wan, _sites: sites }
    }

    /// Waits for the seal, and tells what the pass came to: a line of a table.
    fn finish(&mut self, what: &str) -> Outcome {
        self.ps.sealed("disk0");
        self.mt.sealed("disk0");
        assert_equal(&self.source, &self.target);
        let seconds = self.ps.wait("its time", |event| match event {
            Event::PassSealed { elapsed_seconds, .. } => Some(*elapsed_seconds),
            _ => None,
        });
        let errors = self.ps.status().errors;
        let outcome = Outcome { seconds, crossed_bytes: self.wan.crossed_bytes(), errors };
        let [length, crossed] = [self.length_bytes, outcome.crossed_bytes].map(|bytes| bytes >> 20);
        let errors: Vec<_> = outcome.errors.keys().map(String::as_str).collect();
        println!("| {what} | {length} | {seconds:.1} | {crossed} | {} |", errors.join(" "));
        outcome
    }
}

/// What a pass came to.
struct Outcome {
    seconds: f64,
    /// Bytes that the source's host sent, headers and all that was sent twice included.
    crossed_bytes: u64,
    /// Codes that the process server counted.
    errors: BTreeMap<String, u64>,
}

/// Length of the disk where nothing longer is asked for.
fn length_bytes(usual_mebibytes: u64) -> u64 {
    asked("FAILBACK_WAN_MEBIBYTES", usual_mebibytes) << 20
}

/// What crosses beside contents, of each 100 bytes of a disk: heads of packets, TLS, digests, what a full queue lost.
const BESIDE_PERCENT: u64 = 10;
/// Contents under way at most, and what the commit groups that are open may hold.
const AGAIN_MOST_BYTES: u64 = (32 << 20) + (128 << 20);

/// Sends a disk over a link without faults, and expects that at least this much of the link was used.
fn fills(seed: u64, usual_mebibytes: u64, rate_mbit: u32, least_share: f64) {
    let length_bytes = length_bytes(usual_mebibytes);
    let mut lab = Lab::new(seed, length_bytes, &Link { delay_ms: 15, loss_percent: 0.0, rate_mbit });
    lab.ps.reprotect("app01");
    let Outcome { seconds, errors, .. } = lab.finish(&format!("{rate_mbit} Mbit/s"));
    let share = length_bytes as f64 * 8.0 / 1e6 / f64::from(rate_mbit) / seconds;
    assert!(share > least_share, "{seconds} s, {:.0} % of the link", share * 100.0);
    assert!(errors.is_empty(), "the session ended: {errors:?}");
}

#[test]
fn a_long_thin_link_is_filled() {
    fills(1400, 64, 100, 0.5);
}

#[test]
fn a_long_fat_link_is_used() {
    // How well depends on what else the processors do: `tools/versus` measures that.
    fills(1405, 512, 1000, 0.1);
}

#[test]
fn a_lossy_link_brings_the_disk_home_all_the_same() {
    let link = Link { delay_ms: 15, loss_percent: 0.1, rate_mbit: 1000 };
    let mut lab = Lab::new(1408, length_bytes(64), &link);
    lab.ps.reprotect("app01");
    let errors = lab.finish("1000 Mbit/s, 0.1 % lost").errors;
    assert!(errors.is_empty(), "the session ended: {errors:?}");
}

#[test]
fn a_lossy_link_that_goes_down_for_seconds_brings_the_disk_home_all_the_same() {
    let seconds = asked("FAILBACK_WAN_DOWN_SECONDS", 3);
    let length_bytes = length_bytes(48);
    let mut lab = Lab::new(1410, length_bytes, &Link { delay_ms: 15, loss_percent: 0.1, rate_mbit: 100 });
    lab.ps.reprotect("app01");
    lab.moves();
    lab.wan.down();
    lab.stays_down(Duration::from_secs(seconds));
    lab.wan.up();
    let outcome = lab.finish(&format!("100 Mbit/s, 0.1 % lost, down for {seconds} s"));
    let again = match outcome.errors.is_empty() {
        // Silence that is shorter than what makes a peer dead costs nothing but its time.
        true => 0,
        false => AGAIN_MOST_BYTES,
    };
    // TCP tries again at doubling distances: up to as long as the link was down, it may stay silent once it is up.
    let is_short = Duration::from_secs(2 * seconds + 10) < IDLE_MAX;
    assert!(outcome.errors.is_empty() || !is_short, "{:?}", outcome.errors);
    let most = length_bytes * (100 + BESIDE_PERCENT) / 100 + again;
    assert!(outcome.crossed_bytes <= most, "{} bytes crossed, {most} may", outcome.crossed_bytes);
}

impl Lab {
    /// Waits until a quarter of the disk has crossed, as the status says.
    fn moves(&self) {
        let quarter = self.length_bytes / 4;
        self.until("a quarter crosses", |disk| {
            disk.pass.as_ref().is_some_and(|pass| pass.counters["bytes_to_target"] > quarter)
        });
    }

    /// Waits for so long while nothing crosses.
    fn stays_down(&self, time: Duration) {
        let since = Instant::now();
        self.until("time passes", |_| since.elapsed() > time);
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&DiskStatus) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.ps.disk("app01", "disk0")) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.ps.disk("app01", "disk0"));
            self.ps.moment();
        }
    }
}
