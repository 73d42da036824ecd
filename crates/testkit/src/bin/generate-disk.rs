//! Writes and changes disks made from a seed, for measurements on real files.

use failback_testkit::{Content, GeneratedDisk, Mutation};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

const USAGE: &str = "usage: generate-disk create FILE LENGTH_BYTES SEED
       generate-disk mutate FILE SEED PERMILLE     prints how many pages changed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["create", path, length_bytes, seed] => create(path, length_bytes, seed),
        ["mutate", path, seed, permille] => mutate(path, seed, permille),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate-disk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(path: &str, length_bytes: &str, seed: &str) -> Result<(), Box<dyn Error>> {
    let disk = GeneratedDisk::new(seed.parse()?, length_bytes.parse()?, GeneratedDisk::SLOT_DEFAULT_BYTES);
    let file = File::create_new(path)?;
    file.set_len(disk.length_bytes())?;
    for (range, content) in disk.slots() {
        if content != Content::Hole {
            file.write_all_at(&disk.slot(&range), range.start)?;
        }
    }
    Ok(file.sync_all()?)
}

fn mutate(path: &str, seed: &str, permille: &str) -> Result<(), Box<dyn Error>> {
    let mutation = Mutation { seed: seed.parse()?, permille: permille.parse()? };
    let file = OpenOptions::new().write(true).open(path)?;
    let mut changed = 0;
    for (offset_bytes, bytes) in mutation.pages(file.metadata()?.len()) {
        file.write_all_at(&bytes, offset_bytes)?;
        changed += 1;
    }
    file.sync_all()?;
    println!("{changed}");
    Ok(())
}
