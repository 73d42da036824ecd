//! Two sites in network namespaces, with a link between them that is long, thin and lossy, and that goes down.

use super::assert_equal;
use crate::command::{project, run};
use crate::sites::{
    Daemon, Host, MASTER_TARGET, PATIENCE, Sites, merged, new_disk, source_disk, target_machine,
};
use failback_service::event::Event;
use failback_service::status::Live;
use serde_json::json;
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
        Self { source, target, mt, ps, wan, _sites: sites }
    }

    /// The seconds that the pass took.
    fn finish(&mut self) -> f64 {
        self.ps.sealed("disk0");
        self.mt.sealed("disk0");
        assert_equal(&self.source, &self.target);
        self.ps.wait("its time", |event| match event {
            Event::PassSealed { elapsed_seconds, .. } => Some(*elapsed_seconds),
            _ => None,
        })
    }
}

#[test]
fn a_long_thin_link_is_filled() {
    let length_bytes = 64 << 20;
    let mut lab = Lab::new(1400, length_bytes, &Link { delay_ms: 15, loss_percent: 0.0, rate_mbit: 100 });
    lab.ps.reprotect("app01");
    let seconds = lab.finish();
    let share = length_bytes as f64 * 8.0 / 100e6 / seconds;
    println!("64 MiB at 100 Mbit/s and 30 ms: {seconds:.1} s, {:.0} % of the link", share * 100.0);
    assert!(share > 0.5, "{seconds} s for what the link carries in {:.1} s", share * seconds);
    let status = lab.ps.disk("app01", "disk0");
    assert!(status.error.is_none() && lab.ps.status().errors.is_empty(), "{status:?}");
}

#[test]
fn a_lossy_link_that_goes_down_for_seconds_brings_the_disk_home_all_the_same() {
    let mut lab = Lab::new(1410, 48 << 20, &Link { delay_ms: 15, loss_percent: 0.1, rate_mbit: 100 });
    lab.ps.reprotect("app01");
    lab.moves();
    lab.wan.down();
    lab.stalls();
    lab.wan.up();
    lab.finish();
    // Silence that is shorter than what makes a peer dead costs nothing but its time.
    let errors = lab.ps.status().errors;
    assert!(errors.is_empty(), "the session ended: {errors:?}");
}

impl Lab {
    /// Waits until a quarter of the disk has crossed, as the status says.
    fn moves(&self) {
        self.until("a quarter crosses", |pass| pass.counters["bytes_to_target"] > 12 << 20);
    }

    /// Waits until nothing has crossed for some seconds.
    fn stalls(&self) {
        let mut since = None;
        self.until("nothing crosses", |pass| {
            since =
                since.or(Some(Instant::now())).filter(|_| pass.rates.get("tls_bytes_to_target") == Some(&0));
            since.is_some_and(|since| since.elapsed() > Duration::from_secs(3))
        });
    }

    fn until(&self, what: &str, mut is_so: impl FnMut(&Live) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.ps.disk("app01", "disk0").pass.as_ref().is_some_and(&mut is_so) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.ps.disk("app01", "disk0"));
            self.ps.moment();
        }
    }
}
