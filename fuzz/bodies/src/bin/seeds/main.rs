//! Writes the seeds of the corpus into `fuzz/corpus`, or into the folder named. What the fuzzer found lies beside them
//! under names of its own and stays.

mod images;
mod journals;
mod messages;
mod nbd;
mod page_ranges;
mod receipts;
mod sessions;
mod vhdx;

use std::path::PathBuf;

/// A file of the corpus: target, name, bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

fn main() -> std::io::Result<()> {
    let corpus = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus")), PathBuf::from);
    let all = images::seeds().into_iter().chain(messages::seeds());
    let all =
        all.chain(sessions::seeds()).chain(journals::seeds()).chain(receipts::seeds()).chain(nbd::seeds());
    let all = all.chain(page_ranges::seeds());
    for (target, name, bytes) in all {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        println!("{target}/seed-{name}: {} bytes", bytes.len());
        std::fs::write(folder.join(format!("seed-{name}")), bytes)?;
    }
    Ok(())
}
