//! Every byte of an export, from each server, in every way that it may be asked for.

use crate::server::{Server, assert_same, open, raw_disk, read_all, refused, socket, uri};
use failback_image::ImageFormat;
use failback_model::{Code, SectorSize};
use failback_testkit::run;
use std::process::Command;

/// Not a multiple of any block.
const LENGTH: u64 = (24 << 20) + 512;

#[test]
fn qemu_nbd_serves_raw_and_qcow2() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let qcow2 = folder.path().join("disk.qcow2");
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&qcow2));
    for (format, path) in [("--format=raw", &raw), ("--format=qcow2", &qcow2)] {
        let _server = Server::qemu(folder.path(), &[format, path.to_str().expect("a name")]);
        let image = open(&uri(folder.path(), "")).expect("opened");
        assert_eq!(image.identity().format, ImageFormat::Nbd);
        assert_eq!((image.geometry().length_bytes, image.geometry().sector_size), (LENGTH, SectorSize::B512));
        assert_same(&read_all(&*image), &bytes);
        let allocated = image.allocated_bytes().expect("mapped");
        assert!(allocated > 0 && allocated < LENGTH * 3 / 4, "holes are known: {allocated}");
    }
}

#[test]
fn several_threads_read_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let _server = Server::nbdkit(folder.path(), &["file", raw.to_str().expect("a name")]);
    let image = open(&uri(folder.path(), "")).expect("opened");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (image, bytes) = (&image, &bytes);
            scope.spawn(move || {
                // Unaligned, overlapping, larger and smaller than one request.
                let mut at = thread * 777;
                for length in (1..).map(|step| (step * 314_159) % (3 << 20) + 1) {
                    let length = length.min(bytes.len() - at);
                    let mut buffer = vec![0xaa; length];
                    image.read_at(at as u64, &mut buffer).expect("read");
                    assert_same(&buffer, &bytes[at..at + length]);
                    at += length;
                    if at == bytes.len() {
                        break;
                    }
                }
            });
        }
    });
    let beyond = image.read_at(LENGTH - 1, &mut [0; 2]).expect_err("the end is the end");
    assert_eq!((beyond.code, beyond.offset_bytes), (Code::ReadFailed, Some(LENGTH - 1)));
    image.read_at(u64::MAX, &mut [0; 2]).expect_err("so is that of numbers");
}

#[test]
fn a_server_of_one_client_is_read_by_all_threads_in_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    // It says that several may come, and lets two in.
    let raw = raw.to_str().expect("a name");
    let _server = Server::qemu(folder.path(), &["--shared=2", "--format=raw", raw]);
    let image = open(&uri(folder.path(), "")).expect("opened");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_same(&read_all(&*image), &bytes));
        }
    });
}

#[test]
fn blocks_of_4096_bytes_are_sectors_and_what_lies_across_them_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), 4 << 20);
    let raw = raw.to_str().expect("a name");
    let policy = ["blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=128K"];
    let policy =
        [&["--filter=blocksize-policy", "file", raw, "blocksize-error-policy=error"], &policy[..]].concat();
    let _server = Server::nbdkit(folder.path(), &policy);
    let image = open(&uri(folder.path(), "")).expect("opened");
    assert_eq!(image.geometry().sector_size, SectorSize::B4096);
    assert_same(&read_all(&*image), &bytes);
    for (start, length) in [(1, 1), (4095, 2), (4096, 4097), (100, 1 << 20), (8192, 4096)] {
        let mut buffer = vec![0xaa; length];
        image.read_at(start as u64, &mut buffer).expect("read");
        assert_same(&buffer, &bytes[start..start + length]);
    }
}

#[test]
fn a_server_without_extents_has_no_holes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let _server = Server::nbdkit(folder.path(), &["--no-sr", "file", raw.to_str().expect("a name")]);
    let image = open(&uri(folder.path(), "")).expect("opened");
    assert_eq!(image.allocated_bytes().expect("all of it"), LENGTH);
    assert_same(&read_all(&*image), &bytes);
}

#[test]
fn the_storage_daemon_serves_and_says_what_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let blockdev = format!("driver=file,node-name=disk,filename={},read-only=on", raw.display());
    let listen = format!("addr.type=unix,addr.path={}", socket(folder.path()).display());
    let export = ["--export", "type=nbd,id=e,node-name=disk,name=web01"];
    let arguments = ["--daemonize", "--blockdev", &blockdev, "--nbd-server", &listen];
    let arguments = [&arguments[..], &export].concat();
    let _server = Server::start(folder.path(), "qemu-storage-daemon", "--pidfile=", &arguments);
    let image = open(&uri(folder.path(), "web01")).expect("opened");
    assert_same(&read_all(&*image), &bytes);
    let missing = refused(&uri(folder.path(), "web02"));
    assert_eq!(missing.code, Code::SourceUnreachable);
    assert!(missing.evidence.contains("no export 'web02'; it has 'web01'"), "{}", missing.evidence);
}

#[test]
fn what_is_no_nbd_server_is_named_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = refused(&uri(folder.path(), ""));
    assert_eq!(nobody.code, Code::SourceUnreachable, "{}", nobody.evidence);
    let listener = std::os::unix::net::UnixListener::bind(socket(folder.path())).expect("bound");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").expect("told");
    });
    let other = refused(&uri(folder.path(), ""));
    assert_eq!(other.code, Code::SourceUnsupported, "{}", other.evidence);
    answering.join().expect("it ended");
}
