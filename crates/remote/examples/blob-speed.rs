//! How fast page blobs are read: from Azurite beside four curls, and from our own fake at the rate that Azure allows a disk.
//! docs/performance.md says how it is run and what came out.

use failback_image::Image;
use failback_remote::{BlobAddress, OpenOptions, SourceSpec, open};
use failback_testkit::{Azurite, BlobDisk, BlobServer, Random};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const THREADS: usize = 4;
const RATE: u64 = 60 * MIB;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    beside_curl(folder.path());
    at_a_bounded_rate(folder.path());
}

fn open_url(folder: &Path, url: &str) -> Arc<dyn Image> {
    let file = folder.join("sas");
    fs::write(&file, url).expect("written");
    open(&SourceSpec::Blob(BlobAddress::File(file)), &OpenOptions::default()).expect("opened")
}

/// Reads a disk with some threads that take units in turn; seconds.
fn read_all(disk: &dyn Image, unit_bytes: u64) -> f64 {
    let (next, length_bytes, started) = (AtomicU64::new(0), disk.geometry().length_bytes, Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut buffer = vec![0; unit_bytes as usize];
                loop {
                    let at = next.fetch_add(unit_bytes, Ordering::Relaxed);
                    if at >= length_bytes {
                        return;
                    }
                    disk.read_at(at, &mut buffer).expect("read");
                }
            });
        }
    });
    started.elapsed().as_secs_f64()
}

/// Four curls, each with a quarter of the blob in ranges of 4 MiB on one connection; seconds.
fn curl_all(folder: &Path, url: &str) -> f64 {
    let configs: Vec<_> = (0..THREADS as u64)
        .map(|number| {
            let mut config = String::new();
            for at in (number * GIB / 4..(number + 1) * GIB / 4).step_by(4 * MIB as usize) {
                let (last, joint) = (at + 4 * MIB - 1, if config.is_empty() { "" } else { "next\n" });
                let _ =
                    write!(config, "{joint}url = \"{url}\"\noutput = /dev/null\nrange = {at}-{last}\nfail\n");
            }
            let path = folder.join(format!("curl-{number}"));
            fs::write(&path, config).expect("written");
            path
        })
        .collect();
    let started = Instant::now();
    let curls = configs.iter().map(|config| {
        Command::new("curl").arg("-s").arg("-K").arg(config).stdout(Stdio::null()).spawn().expect("curl")
    });
    for mut curl in curls.collect::<Vec<_>>() {
        assert!(curl.wait().expect("it ends").success());
    }
    started.elapsed().as_secs_f64()
}

fn beside_curl(folder: &Path) {
    let azurite = Azurite::start(&folder.join("azurite"));
    azurite.create("d", GIB);
    let mut part = vec![0; 4 * MIB as usize];
    let mut random = Random::new(1);
    for at in (0..GIB).step_by(part.len()) {
        random.fill(&mut part);
        azurite.write_pages("d", at, &part);
    }
    let url = azurite.url("d", "r", "2099-01-01T00:00:00Z");
    let disk = open_url(folder, &url);
    for _ in 0..3 {
        let (curl, whole, units) =
            (curl_all(folder, &url), read_all(&*disk, 4 * MIB), read_all(&*disk, MIB / 4));
        println!(
            "azurite 1 GiB: 4 curls {:.0} MiB/s, ours {:.0} MiB/s in units of 4 MiB, {:.0} MiB/s in units of 256 KiB",
            1024.0 / curl,
            1024.0 / whole,
            1024.0 / units
        );
    }
}

fn at_a_bounded_rate(folder: &Path) {
    let mut disk = BlobDisk::new(240 * MIB);
    let mut part = vec![0; 4 * MIB as usize];
    Random::new(2).fill(&mut part);
    for at in (0..disk.length_bytes()).step_by(part.len()) {
        disk.write(at, &part);
    }
    let server = BlobServer::start();
    let disks: Vec<_> =
        (0..4).map(|number| open_url(folder, &server.add(&format!("d{number}"), disk.clone()))).collect();
    server.limit(Some(RATE));
    for unit_bytes in [4 * MIB, MIB / 4] {
        let one = read_all(&*disks[0], unit_bytes);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for disk in &disks {
                scope.spawn(move || read_all(&**disk, unit_bytes));
            }
        });
        let four = started.elapsed().as_secs_f64();
        let share = |seconds: f64| 100.0 * disk.length_bytes() as f64 / RATE as f64 / seconds;
        println!(
            "60 MiB/s a blob, units of {} KiB: one at {:.1} %, four at once at {:.1} %",
            unit_bytes >> 10,
            share(one),
            share(four)
        );
    }
}
