//! The same bytes in any container: one root, and conversions that give them back.

use crate::lab::Lab;

/// Not a multiple of a block, a grain or a page.
const LENGTH: u64 = (3 << 20) + 1536;

/// Lines that `hash` prints; they name nothing but the bytes.
fn hash(lab: &Lab, image: &str) -> String {
    lab.run(&["hash", image]).text(0).stdout
}

#[test]
fn hash_is_the_same_for_every_format_that_holds_the_same_bytes() {
    let lab = Lab::new();
    lab.disk("disk.raw", 21, LENGTH);
    let root = hash(&lab, "disk.raw");
    assert!(root.starts_with("root "), "{root}");
    assert!(root.contains(&format!("length_bytes {LENGTH}\n")), "{root}");
    let vmdk_types = [
        "vmfs",
        "monolithicFlat",
        "twoGbMaxExtentFlat",
        "monolithicSparse",
        "twoGbMaxExtentSparse",
        "streamOptimized",
    ];
    for kind in vmdk_types {
        let name = format!("{kind}.vmdk");
        lab.run(&["image", "convert", "--vmdk-type", kind, "disk.raw", &name]).text(0);
        assert_eq!(hash(&lab, &name), root, "{kind}");
        let info = lab.run(&["image", "info", "--json", &name]).json(0);
        assert_eq!((&info["format"], &info["virtual_size_bytes"]), (&kind.into(), &LENGTH.into()));
        let check = lab.run(&["image", "check", "--json", &name]).json(0);
        assert_eq!((&check["faults"], &check["status"]), (&0.into(), &"done".into()));
        let back = format!("{kind}.raw");
        lab.run(&["image", "convert", &name, &back]).text(0);
        assert!(lab.read(&back) == lab.read("disk.raw"), "{kind} gives the bytes back");
    }
    lab.run(&["image", "convert", "disk.raw", "disk.vhd"]).text(0);
    assert_eq!(hash(&lab, "disk.vhd"), root);
}

#[test]
fn what_cannot_be_written_in_place_is_refused_with_a_way_out() {
    let lab = Lab::new();
    lab.noise("disk.raw", 24, 1 << 20);
    lab.run(&["image", "convert", "--vmdk-type", "streamOptimized", "disk.raw", "export.vmdk"]).text(0);
    let before = lab.state();
    for words in [&["sync", "disk.raw", "export.vmdk"][..], &["sync", "--dry-run", "disk.raw", "export.vmdk"]]
    {
        let stderr = lab.run(words).text(3).stderr;
        assert!(stderr.starts_with("error[FB105]: image kind cannot be written in place\n"), "{stderr}");
        assert!(stderr.contains("remedy: sync into a new image"), "{stderr}");
    }
    assert_eq!(lab.state(), before);
}

#[test]
fn the_root_tells_block_sizes_and_one_byte_apart() {
    let lab = Lab::new();
    lab.disk("disk.raw", 22, LENGTH);
    let mut other = lab.read("disk.raw");
    *other.last_mut().expect("it has bytes") ^= 1;
    lab.write("other.raw", &other);
    assert_ne!(hash(&lab, "disk.raw"), hash(&lab, "other.raw"));
    let small = lab.run(&["hash", "--json", "--block-size", "16k", "disk.raw"]).json(0);
    let large = lab.run(&["hash", "--json", "--block-size", "1M", "disk.raw"]).json(0);
    assert_ne!(small["root"], large["root"]);
    assert_eq!((&small["block_size_bytes"], &large["block_size_bytes"]), (&16_384.into(), &1_048_576.into()));
}

#[test]
fn hash_writes_a_manifest() {
    let lab = Lab::new();
    lab.disk("disk.raw", 23, LENGTH);
    let done = lab.run(&["hash", "--json", "--manifest", "disk.manifest", "disk.raw"]).json(0);
    assert_eq!(done["manifest"], "disk.manifest");
    assert!(lab.read("disk.manifest").len() as u64 >= LENGTH.div_ceil(65_536) * 32);
}

#[test]
fn create_makes_what_info_says() {
    let lab = Lab::new();
    let made = lab.run(&["image", "create", "--json", "new.vmdk", "5M"]).json(0);
    let info = lab.run(&["image", "info", "--json", "new.vmdk"]).json(0);
    for field in ["format", "virtual_size_bytes", "uuid", "content_id", "adapter_type", "files"] {
        assert_eq!(made[field], info[field], "{field}");
    }
    assert_eq!((&info["format"], &info["virtual_size_bytes"]), (&"vmfs".into(), &(5u64 << 20).into()));
    assert_eq!(info["files"].as_array().map(Vec::len), Some(2));
    let thick = ["image", "create", "--json", "--provisioning", "thick", "raw:thick", "1M"];
    assert_eq!(lab.run(&thick).json(0)["provisioning"], "thick");
    let text = lab.run(&["image", "info", "new.vmdk"]).text(0).stdout;
    assert!(text.contains("virtual size  5 MiB (5242880 bytes)\n"), "{text}");
}
