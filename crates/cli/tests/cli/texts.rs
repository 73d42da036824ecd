//! What people read, word for word: a change of text is a change to look at.

use crate::lab::{Ended, Lab};
use failback_model::{Code, ExitClass};

#[test]
fn help_reads_well() {
    let lab = Lab::new();
    for words in [
        &["--help"][..],
        &["sync", "--help"],
        &["hash", "-h"],
        &["image", "--help"],
        &["image", "create", "--help"],
        &["image", "convert", "-h"],
        &["reprotect", "-h"],
        &["status", "--help"],
        &["register", "--help"],
        &["release", "-h"],
        &["bandwidth", "--help"],
        &["reload", "-h"],
        &["events", "--help"],
        &["verify", "--help"],
        &["journal", "--help"],
        &["journal", "undo", "--help"],
        &["points", "--help"],
        &["points", "drop", "--help"],
        &["cutover", "--help"],
        &["cancel", "-h"],
        &["commit", "--help"],
        &["receipt", "--help"],
        &["receipt", "check", "--help"],
        &["pki", "--help"],
        &["pki", "issue", "-h"],
    ] {
        let name = format!("help {}", words.join(" ")).replace(" ", "_").replace('-', "");
        insta::assert_snapshot!(name, lab.run(words).text(0).stdout);
    }
}

#[test]
fn all_findings_are_told_at_once() {
    let words =
        ["sync", "absent.raw", "new.raw", "--block-size", "3K", "--seed", "lost.raw", "--seed", "gone.vmdk"];
    insta::assert_snapshot!(Lab::new().run(&words).text(3).stderr, @r"
    error[FB201]: cannot open
      cannot open absent.raw: No such file or directory (os error 2)
      remedy: check that the path exists and that this user may open it
    error[FB401]: block size is not possible
      block size 3072 is not a power of two between 16K and 1M
      remedy: choose a power of two from 16K to 1M
    error[FB405]: seed cannot be used
      cannot open lost.raw: No such file or directory (os error 2)
      remedy: check the seed's path, or leave it out
    error[FB405]: seed cannot be used
      cannot open gone.vmdk: No such file or directory (os error 2)
      remedy: check the seed's path, or leave it out
    ");
}

#[test]
fn a_plan_and_a_summary_read_well() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 300 << 10);
    lab.write("target.raw", &lab.changed("source.raw", &[5000]));
    let plan = lab.run(&["sync", "--dry-run", "source.raw", "target.raw"]).text(0).stdout;
    insta::assert_snapshot!(plan, @r"
    plan: source.raw -> target.raw (original-location)
      source     raw, 300 KiB (307200 bytes), sectors of 512, thick
      target     raw, 300 KiB (307200 bytes), sectors of 512, thick
      known      no generation and no root at either end: what is there is scanned
      compares   300 KiB (307200 bytes) in 5 blocks of 64 KiB
      will read  300 KiB of the source, 300 KiB of the target, and what differs once more
      will ship  about 5.0 KiB by 5 sampled blocks, 302.9 KiB at most
      will take  about 00:01 where disks read 400 MiB/s and write 200 MiB/s
    ");
    let summary = lab.run(&["sync", "source.raw", "target.raw"]).text(0).stdout;
    let (steady, _) = summary.split_once(", limited by ").unwrap_or((&summary, ""));
    insta::assert_snapshot!(without_numbers(steady), @r"
    source.raw -> target.raw (original-location)
      read      # KiB of the source, # KiB of the target
      differed  # of # blocks
      shipped   # page; # KiB to the target, # B to the source
      saved     # KiB of egress against a full copy of # KiB
      written   # KiB, # B of it zeros
      verified  every block on arrival
      root      #
      elapsed   # s
    ");
}

/// Digests and whatever starts with a digit become `#`: frames may grow by a byte, times differ.
fn without_numbers(text: &str) -> String {
    let mut masked = String::new();
    for part in text.split_inclusive([' ', '\n', '(']) {
        let digest = part.trim_end().len() == 64;
        let number = part.trim_end_matches([' ', '\n', '(']);
        if digest || number.starts_with(|c: char| c.is_ascii_digit()) {
            masked += "#";
            masked += &part[number.len()..];
        } else {
            masked += part;
        }
    }
    masked
}

#[test]
fn one_disk_under_two_names_is_recognised() {
    let lab = Lab::new();
    lab.noise("disk.raw", 1, 65_536);
    std::fs::hard_link(lab.path("disk.raw"), lab.path("link.raw")).expect("a link");
    insta::assert_snapshot!(lab.run(&["sync", "disk.raw", "link.raw"]).text(3).stderr, @r"
    error[FB308]: source and target are the same file
      link.raw
      remedy: name two different images
    ");
}

#[test]
fn usage_errors_read_like_every_other_error() {
    let lab = Lab::new();
    insta::assert_snapshot!(lab.run(&["sync", "a.raw", "b.raw", "--grwo"]).text(2).stderr, @r"
    error[FB901]: command line is wrong
      unexpected argument '--grwo' found
        tip: a similar argument exists: '--grow'
      Usage: failback sync --grow <SRC> <DST>
      remedy: see --help
    ");
    insta::assert_snapshot!(lab.run(&["image", "create", "a.raw", "1Q"]).text(2).stderr, @r"
    error[FB901]: command line is wrong
      invalid value '1Q' for '<SIZE>': a size is a whole number with K, M, G or T behind it, such as 64K or 20G
      remedy: see --help
    ");
    insta::assert_snapshot!(lab.run(&["hash", "a.raw", "--threads", "65"]).text(2).stderr, @r"
    error[FB901]: command line is wrong
      invalid value '65' for '--threads <N>': 65 is not in 1..=64
      remedy: see --help
    ");
    assert!(lab.run(&[]).text(2).stderr.contains("Usage: failback <COMMAND>"));
    assert!(lab.run(&["image"]).text(2).stderr.contains("Usage: failback image <COMMAND>"));
}

#[test]
fn a_short_target_says_how_to_go_on() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 131_072);
    lab.noise("short.raw", 1, 65_536);
    insta::assert_snapshot!(lab.run(&["sync", "source.raw", "short.raw"]).text(3).stderr, @r"
    error[FB306]: source is longer than the target
      source.raw has 131072 bytes, short.raw only 65536, and the excess is not zero
      remedy: --grow extends it to 131072 bytes
    ");
    lab.run(&["sync", "--grow", "source.raw", "short.raw"]).text(0);
    assert!(lab.read("short.raw") == lab.read("source.raw"));
}

#[test]
fn another_disk_is_not_overwritten_until_that_is_accepted() {
    let lab = Lab::new();
    lab.noise("source.raw", 1, 4 << 20);
    lab.noise("target.raw", 2, 4 << 20);
    let before = lab.state();
    let stderr = lab.run(&["sync", "source.raw", "target.raw"]).text(3).stderr;
    insta::assert_snapshot!(stderr, @r"
    error[FB305]: target looks like another disk
      64 of 64 sampled blocks with data of target.raw differ from the source's
      remedy: compare the two disks; --accept-mismatch if the target may be overwritten
    ");
    assert_eq!(lab.state(), before);
    let accepted = lab.run(&["sync", "--json", "--accept-mismatch", "source.raw", "target.raw"]).json(0);
    assert_eq!(accepted["findings"][0]["severity"], "warning");
    assert!(lab.read("target.raw") == lab.read("source.raw"));
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure_and_one_nobody_reads_is_none() {
    let lab = Lab::new();
    lab.noise("disk.raw", 1, 65_536);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let ended: Ended = lab.command(&["hash", "disk.raw"]).stdout(full).output().expect("it starts").into();
    insta::assert_snapshot!(ended.text(4).stderr, @r"
    error[FB203]: write failed
      cannot write to standard output: No space left on device (os error 28)
      remedy: check where it leads to, then run the same command again
    ");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended: Ended = lab.command(&["man"]).stdout(writer).output().expect("it starts").into();
    assert_eq!(ended.text(0).stderr, "");
}

#[test]
fn the_manual_names_every_exit_code_and_every_code() {
    let lab = Lab::new();
    let page = lab.run(&["man"]).text(0).stdout;
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "NOTES", "EXAMPLES", "OUTPUT", "CODES"] {
        assert!(page.contains(&format!(".SH {section}")), "{section}");
    }
    assert!(page.contains(".SH \"EXIT STATUS\""), "{page}");
    for code in Code::ALL {
        assert!(page.contains(&format!("\\fB{}\\fR\n", code.as_str())), "{}", code.as_str());
        assert!(page.contains(&code.title().replace('-', "\\-")), "{}", code.title());
    }
    for class in [ExitClass::Success, ExitClass::Interrupted, ExitClass::Mismatch, ExitClass::Signal] {
        assert!(page.contains(&format!(".TP\n\\fB{}\\fR\n", class.code())), "{}", class.code());
    }
}

#[test]
fn a_page_for_every_command_is_written() {
    let lab = Lab::new();
    lab.run(&["man", "--dir", "pages/man1"]).text(0);
    for (page, word) in [
        ("failback.1", "FB101"),
        ("failback-sync.1", "accept\\-mismatch"),
        ("failback-hash.1", "manifest"),
        ("failback-image-info.1", "EXAMPLES"),
        ("failback-image-create.1", "streamOptimized"),
        ("failback-image-convert.1", "EXIT STATUS"),
        ("failback-image-check.1", "faults"),
        ("failback-reprotect.1", "accept\\-older"),
        ("failback-status.1", "monitoring plugins"),
        ("failback-stop.1", "master\\-target.sock"),
        ("failback-verify.1", "media"),
        ("failback-pki-revoke.1", "crl.pem"),
        ("failback-completions.1", "zsh"),
        ("failback-man.1", "DIR"),
    ] {
        let text = String::from_utf8(lab.read(&format!("pages/man1/{page}"))).expect("UTF-8");
        assert!(text.contains(word), "{word} in {page}: {text}");
    }
}

#[test]
fn completions_know_the_options() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lab.run(&["completions", shell]).text(0).stdout;
        assert!(script.contains("accept-mismatch") && script.contains("completions"), "{shell}");
    }
}
