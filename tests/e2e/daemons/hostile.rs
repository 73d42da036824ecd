//! Whoever finds the port: scanners, random bytes, connections that say nothing. A pass does not mind, and the daemon
//! stays small.

use super::Slow;
use failback_testkit::Random;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    stream
}

/// Says something, and waits until the other end hangs up or says what it thinks.
fn say(address: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(address);
    // It may hang up in the middle.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0; 4096]);
}

#[test]
fn strangers_on_the_port_neither_stop_a_pass_nor_cost_much() {
    let slow = Slow::new(1100, 24 << 20, 8_000_000);
    let port = slow.sites.at(9443);
    // Once the session stands: a flood may displace whoever is just shaking hands, and that one tries again.
    slow.proxy.wait_for(2 << 20);
    let idle: Vec<_> = (0..200).map(|_| connect(port)).collect();
    // A scanner: there and away, or with what servers of other protocols would answer.
    (0..100).for_each(|_| drop(connect(port)));
    for probe in
        [b"GET / HTTP/1.0\r\n\r\n".as_slice(), b"SSH-2.0-x\r\n", b"\0\0\0\xa4\xff\x53\x4d\x42", b"\r\n"]
    {
        say(port, probe);
    }
    let mut random = Random::new(1101);
    for length in [1, 5, 64, 4 << 10, 256 << 10, 4 << 20] {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        say(port, &bytes);
        // The same as a TLS record of a handshake, of the length that it claims.
        bytes.splice(..0, [22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb]);
        say(port, &bytes);
    }
    let refused = slow.mt.status().errors;
    assert!(refused.contains_key("FB510"), "{refused:?}");
    assert_eq!(slow.mt.page(slow.sites.at(9444), "/healthz").0, 200);
    let mut slow = slow.finish();
    assert!(slow.ps.status().errors.is_empty(), "the pass was disturbed: {:?}", slow.ps.status().errors);
    // A session is opened while all of them wait.
    slow.ps.reprotect("app01");
    assert_eq!(slow.ps.sealed("disk0").generation, 2);
    assert!(!slow.mt.log().contains("ERROR"), "{}", slow.mt.log());
    drop(idle);
}
