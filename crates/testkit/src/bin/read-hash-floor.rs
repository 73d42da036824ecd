//! The bare cost of comparing two disks: reads both with nothing but positioned reads, hashes their blocks with nothing
//! but BLAKE3. What a comparison takes beyond this is what a pass adds.

use failback_blockio::AlignedBuffer;
use failback_model::limits::{BLOCK_DEFAULT_BYTES, UNIT_MIN_BYTES};
use rustix::fs::SeekFrom;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const USAGE: &str = "usage: read-hash-floor holes|dense THREADS FILE...
       reads and hashes every file whole, or (holes) only what is not a hole";

/// One read: which file, where, how long.
type Unit = (usize, u64, usize);

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("read-hash-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [mode, threads, paths @ ..] = arguments else { return Err(USAGE.into()) };
    if !matches!(mode.as_str(), "holes" | "dense") || paths.is_empty() {
        return Err(USAGE.into());
    }
    let files = paths.iter().map(File::open).collect::<Result<Vec<_>, _>>()?;
    // Unit for unit in turn, so that both disks advance together as in a pass.
    let mut units = Vec::new();
    for (index, file) in files.iter().enumerate() {
        units.extend(units_of(index, file, mode == "holes")?);
    }
    units.sort_unstable_by_key(|&(index, offset_bytes, _)| (offset_bytes, index));
    let next = AtomicUsize::new(0);
    let threads: usize = threads.parse()?;
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| read_and_hash(&files, &units, &next))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("reader does not panic"))
    })?;
    Ok(())
}

fn units_of(index: usize, file: &File, skip_holes: bool) -> Result<Vec<Unit>, Box<dyn Error>> {
    let length_bytes = file.metadata()?.len();
    let mut units: Vec<Unit> = Vec::new();
    let mut at = 0;
    while at < length_bytes {
        let mut end = length_bytes;
        if skip_holes {
            let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
                Err(rustix::io::Errno::NXIO) => break,
                found => found?,
            };
            at = data / UNIT_MIN_BYTES * UNIT_MIN_BYTES;
            end = rustix::fs::seek(file, SeekFrom::Hole(data))?;
        }
        while at < end {
            units.push((index, at, UNIT_MIN_BYTES.min(length_bytes - at) as usize));
            at += UNIT_MIN_BYTES;
        }
    }
    Ok(units)
}

fn read_and_hash(files: &[File], units: &[Unit], next: &AtomicUsize) -> std::io::Result<()> {
    // On a page: the kernel copies into others at a third of the speed.
    let mut buffer = AlignedBuffer::new(UNIT_MIN_BYTES as usize);
    while let Some(&(index, offset_bytes, length)) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
        files[index].read_exact_at(&mut buffer[..length], offset_bytes)?;
        for block in buffer[..length].chunks(BLOCK_DEFAULT_BYTES as usize) {
            black_box(blake3::hash(block));
        }
    }
    Ok(())
}
