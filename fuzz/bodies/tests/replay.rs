//! Replays the stored corpus: every input that once taught the fuzzer something, or broke something, is a test.

use failback_fuzz_bodies::{TARGETS, session_seals, sketched};
use failback_image::{Access, vhd, vhdx, vmdk};
use std::path::Path;
use std::sync::Arc;

#[test]
fn every_input_of_the_corpus_keeps_its_properties() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut failed = Vec::new();
    for (target, body) in TARGETS {
        let folder = corpus.join(target);
        let mut count = 0;
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| body(&bytes)).is_err() {
                failed.push(path);
            }
            count += 1;
        }
        assert!(
            count > 0,
            "{} is empty: cargo run -p failback-fuzz-bodies --bin fuzz-seeds",
            folder.display()
        );
    }
    assert!(failed.is_empty(), "the body of the folder's target panics on {failed:?}");
}

#[test]
fn the_sound_seeds_open() {
    let device = |seed: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(seed);
        Arc::new(sketched(&std::fs::read(path).unwrap()))
    };
    let opened = [
        vmdk::open_on(device("vmdk_sparse/seed-sound"), Access::Write),
        vmdk::open_on(device("vmdk_stream/seed-two-grains"), Access::Read),
        vhd::over(device("vhd/seed-fixed"), Access::Write),
        vhd::over(device("vhd/seed-dynamic"), Access::Read),
        vhdx::over(device("vhdx/seed-one-block")),
    ];
    for image in opened {
        let image = image.unwrap_or_else(|error| panic!("{error}"));
        assert!(image.next_data(0).unwrap().is_some(), "{:?} has data", image.identity().format);
    }
}

#[test]
fn the_honest_passes_seal() {
    for seed in ["tiny", "seeds", "refined", "large"] {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/session").join(format!("seed-{seed}"));
        assert!(session_seals(&std::fs::read(path).unwrap()), "{seed}");
    }
}

#[test]
fn nothing_and_noise_are_inputs_too() {
    let noise: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    for (_, body) in TARGETS {
        for length in [0, 1, 2, 5, 11, 80, 112, 512, 3000] {
            body(&noise[..length]);
        }
    }
}
