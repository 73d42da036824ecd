//! Seeds as the command's users meet them: of every format, several at once, for new and for existing targets.

use crate::lab::Lab;

const LENGTH: u64 = 4 << 20;

#[test]
fn seeds_of_every_format_keep_blocks_off_the_wire() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    let kinds: [&[&str]; 5] = [
        &["seed.raw"],
        &["flat.vmdk"],
        &["sparse.vmdk", "--vmdk-type", "monolithicSparse"],
        &["stream.vmdk", "--vmdk-type", "streamOptimized"],
        &["seed.vhd"],
    ];
    lab.noise("old.raw", 2, LENGTH);
    for kind in kinds {
        let seed = kind[0];
        lab.run(&[&["image", "convert", "source.raw"], kind].concat()).text(0);
        for is_new in [true, false] {
            let target = format!("from-{seed}-{is_new}.raw");
            if !is_new {
                lab.write(&target, &lab.read("old.raw"));
            }
            let words =
                ["sync", "--json", "--verify", "--accept-mismatch", "--seed", seed, "source.raw", &target];
            let report = lab.run(&words).json(0);
            assert_eq!(lab.read(&target), lab.read("source.raw"), "{target}");
            assert_eq!(report["seed_bytes"], LENGTH, "{target}");
            assert_eq!(report["pages_shipped"], 0, "{target}");
        }
    }
}

#[test]
fn several_seeds_complete_each_other_and_one_that_lacks_blocks_costs_only_those() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    let source = lab.read("source.raw");
    let half = LENGTH as usize / 2;
    // Each holds a half; a quarter of the second is something else.
    lab.write("first.raw", &source[..half]);
    let mut second = source[half..].to_vec();
    second[half / 2..].fill(9);
    lab.write("second.raw", &second);
    let words =
        ["sync", "--json", "--seed", "first.raw", "--seed", "second.raw", "source.raw", "target.vmdk"];
    let report = lab.run(&words).json(0);
    assert_eq!(report["seed_bytes"], LENGTH * 3 / 4);
    assert_eq!(report["pages_shipped"], LENGTH / 4 / 4096);
    assert_eq!(lab.read("target-flat.vmdk"), source);
}

#[test]
fn an_image_that_is_written_in_one_go_takes_nothing_from_seeds_and_says_so() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, LENGTH);
    lab.write("seed.raw", &lab.read("source.raw"));
    let words = ["sync", "--json", "--verify", "--vmdk-type", "streamOptimized", "--seed", "seed.raw"];
    let report = lab.run(&[&words[..], &["source.raw", "target.vmdk"]].concat()).json(0);
    assert_eq!(report["seed_bytes"], 0);
    assert_eq!(report["findings"][0]["code"], "FB405");
    lab.run(&["image", "convert", "target.vmdk", "back.raw"]).text(0);
    assert_eq!(lab.read("back.raw"), lab.read("source.raw"));
}
