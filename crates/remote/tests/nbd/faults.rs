//! Servers that fail, stall, vanish and come back.

use crate::server::{Server, assert_same, open, raw_disk, read_all, socket, uri};
use failback_model::Code;
use std::fs;

const LENGTH: u64 = 8 << 20;

#[test]
fn an_error_of_the_server_is_one_of_the_read_and_heals_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let trip = folder.path().join("trip");
    let trip_option = format!("error-pread-file={}", trip.display());
    let error = ["error-pread=EIO", "error-pread-rate=100%", &trip_option];
    let filter = [&["--filter=error", "file", raw.to_str().expect("a name")], &error[..]].concat();
    let _server = Server::nbdkit(folder.path(), &filter);
    let image = open(&uri(folder.path(), "")).expect("opened");
    assert_same(&read_all(&*image), &bytes);
    fs::write(&trip, []).expect("tripped");
    // Several requests are under way: the connection is in order behind all of their errors.
    for _ in 0..3 {
        let failed = image.read_at(0, &mut vec![0; 5 << 20]).expect_err("it fails");
        assert_eq!((failed.code, failed.offset_bytes), (Code::ReadFailed, Some(0)), "{failed}");
        assert!(failed.to_string().contains("os error 5"), "{failed}");
    }
    fs::remove_file(&trip).expect("healed");
    assert_same(&read_all(&*image), &bytes);
}

#[test]
fn some_errors_among_slow_replies_spoil_only_their_own_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let options = ["error-pread=EIO", "error-pread-rate=20%", "rdelay=2ms"];
    let filters = ["--filter=error", "--filter=delay", "file", raw.to_str().expect("a name")];
    let _server = Server::nbdkit(folder.path(), &[&filters[..], &options].concat());
    let image = open(&uri(folder.path(), "")).expect("opened");
    let (mut failed, mut read) = (0, 0);
    for at in (0..LENGTH as usize).step_by(512 << 10).cycle().take(64) {
        let mut buffer = vec![0xaa; 512 << 10];
        match image.read_at(at as u64, &mut buffer) {
            Ok(()) => {
                assert_same(&buffer, &bytes[at..at + buffer.len()]);
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.code, Code::ReadFailed, "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0 && read > 0, "{failed} failed, {read} read");
}

#[test]
fn a_server_killed_in_the_middle_is_read_on_once_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, bytes) = raw_disk(folder.path(), LENGTH);
    let arguments = ["--filter=rate", "file", raw.to_str().expect("a name"), "rate=64M"];
    let server = Server::nbdkit(folder.path(), &arguments);
    let image = open(&uri(folder.path(), "")).expect("opened");
    let begun = std::sync::Barrier::new(2);
    let got = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            // A second of reading: the server ends somewhere within.
            let mut buffer = vec![0; LENGTH as usize];
            image.read_at(0, &mut buffer[..1 << 20]).expect("read");
            begun.wait();
            image.read_at(0, &mut buffer).map(|()| buffer)
        });
        begun.wait();
        server.kill();
        let _again = Server::nbdkit(folder.path(), &arguments);
        reading.join().expect("no panic").expect("read")
    });
    assert_same(&got, &bytes);
}

#[test]
fn a_server_that_comes_back_with_another_disk_is_not_read_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, _) = raw_disk(folder.path(), LENGTH);
    let raw = raw.to_str().expect("a name");
    let server = Server::qemu(folder.path(), &["--format=raw", raw]);
    let image = open(&uri(folder.path(), "")).expect("opened");
    server.kill();
    fs::remove_file(socket(folder.path())).expect("a killed server leaves its socket");
    fs::File::options().write(true).open(raw).and_then(|file| file.set_len(2 * LENGTH)).expect("grown");
    let _again = Server::qemu(folder.path(), &["--format=raw", raw]);
    let changed = image.read_at(0, &mut [0; 512]).expect_err("another disk");
    assert_eq!(changed.code, Code::ChangedMeanwhile, "{changed}");
}

#[test]
fn a_server_that_is_gone_is_given_up_in_bounded_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (raw, _) = raw_disk(folder.path(), LENGTH);
    let server = Server::qemu(folder.path(), &["--format=raw", raw.to_str().expect("a name")]);
    let image = open(&uri(folder.path(), "")).expect("opened");
    server.kill();
    let gone = image.read_at(0, &mut [0; 512]).expect_err("nobody is there");
    assert_eq!(gone.code, Code::SourceUnreachable, "{gone}");
}
