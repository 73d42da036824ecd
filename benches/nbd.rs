//! Reading an export to nothing: our client beside `nbdcopy URI null:`, in turn, from the same servers.
//!
//! `cargo bench -p failback-benches --bench nbd [-- MIB RUNS]`; needs nbdkit, qemu-nbd and nbdcopy. Nothing is hashed: one thread
//! for each of four connections reads around holes, in units of 256 KiB, as a scan does, or in runs of 4 MiB.

use failback_remote::{OpenOptions, SourceSpec, open};
use failback_testkit::{NbdServer, Random, nbd_socket};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const THREADS: usize = 4;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    // As a test, which cargo tells it by leaving this word out, it only shows that it runs.
    let usual = if std::env::args().any(|word| word == "--bench") { (1024, 5) } else { (16, 1) };
    let (mebibytes, runs) = (numbers.next().unwrap_or(usual.0), numbers.next().unwrap_or(usual.1));
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let disk = made(folder.path(), mebibytes);
    let disk = disk.to_str().expect("a name");
    let unix = format!("nbd+unix:///?socket={}", nbd_socket(folder.path()).display());
    let port = (20_000 + std::process::id() % 10_000).to_string();
    let tcp = format!("nbd://127.0.0.1:{port}/");
    println!(
        "| server | read in | failback, MiB/s | nbdcopy, MiB/s | time, failback / nbdcopy |\n|---|---|---|---|---|"
    );
    {
        let _server = NbdServer::nbdkit(folder.path(), &["file", disk]);
        row("nbdkit file, Unix socket", &unix, mebibytes, runs);
    }
    {
        let _server = NbdServer::qemu(folder.path(), &["--format=raw", disk]);
        row("qemu-nbd raw, Unix socket", &unix, mebibytes, runs);
    }
    let ip = ["--readonly", "--ipaddr=127.0.0.1", "--port", &port, "file", disk];
    let _server = NbdServer::start(folder.path(), "nbdkit", "--pidfile=", &ip);
    row("nbdkit file, loopback TCP", &tcp, mebibytes, runs);
}

/// A disk of random bytes, in the page cache.
fn made(folder: &Path, mebibytes: u64) -> std::path::PathBuf {
    let path = folder.join("disk.raw");
    let mut file = File::create(&path).expect("made");
    let (mut random, mut bytes) = (Random::new(1), vec![0; 1 << 20]);
    for _ in 0..mebibytes {
        random.fill(&mut bytes);
        file.write_all(&bytes).expect("written");
    }
    file.sync_all().expect("durable");
    path
}

/// Lines of the table: medians of runs that were made in turn.
fn row(name: &str, uri: &str, mebibytes: u64, runs: u64) {
    for (unit_bytes, unit) in [(256 << 10, "256 KiB"), (4 << 20, "4 MiB")] {
        let (_warm, _up) = (ours(uri, unit_bytes), theirs(uri));
        let times: Vec<_> = (0..runs).map(|_| (ours(uri, unit_bytes), theirs(uri))).collect();
        let [our, their] = [median(times.iter().map(|both| both.0)), median(times.iter().map(|both| both.1))];
        let ratios = times.iter().map(|(our, their)| our / their);
        let (least, most) = ratios
            .clone()
            .fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
        let rate = |seconds: f64| mebibytes as f64 / seconds;
        let ratio = median(ratios);
        println!(
            "| {name} | {unit} | {:.0} | {:.0} | {ratio:.2} ({least:.2} to {most:.2}) |",
            rate(our),
            rate(their)
        );
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds.
fn ours(uri: &str, unit_bytes: u64) -> f64 {
    let begun = Instant::now();
    let spec = SourceSpec::parse(uri).expect("a URI");
    let Ok(image) = open(&spec, &OpenOptions { connections: THREADS, ..OpenOptions::default() }) else {
        panic!("{uri} cannot be opened");
    };
    let (next, length) = (AtomicU64::new(0), image.geometry().length_bytes);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut buffer = vec![0; unit_bytes as usize];
                loop {
                    let start = next.fetch_add(unit_bytes, Ordering::Relaxed);
                    if start >= length {
                        return;
                    }
                    let run = &mut buffer[..unit_bytes.min(length - start) as usize];
                    failback_engine::read_around_holes(&*image, start, run).expect("read");
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

/// Seconds.
fn theirs(uri: &str) -> f64 {
    let begun = Instant::now();
    let connections = format!("--connections={THREADS}");
    let ended = Command::new("nbdcopy").args([&connections, uri, "null:"]).stdin(Stdio::null()).status();
    assert!(ended.expect("nbdcopy runs").success());
    begun.elapsed().as_secs_f64()
}
