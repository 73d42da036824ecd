//! What systemd is told: ready, stopping, a line of status, and that the daemon is alive.
//!
//! Outside systemd nothing listens, and nothing is said.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd.
#[derive(Debug, Default)]
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// From the environment of the process.
    pub fn from_environment() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    /// To the socket of this name: a path, or an abstract name behind `@`.
    fn to(name: Option<OsString>) -> Self {
        let address = name.and_then(|name| match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            [b'/', ..] => SocketAddr::from_pathname(&name).ok(),
            _ => None,
        });
        Self(address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))))
    }

    /// The daemon answers.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The daemon drains.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The daemon is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// What it does, for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.say(&format!("STATUS={}", line.replace('\n', " ")));
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.0 {
            // systemd that does not listen cannot be told so.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// How often systemd wants to hear that the daemon is alive, if at all: half of what it waits for.
pub fn watchdog_interval() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    interval(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id())
}

fn interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    let usec: u64 = usec?.parse().ok().filter(|&usec| usec > 0)?;
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    is_ours.then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).expect("something was said");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("failback-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        for (listener, told) in [
            (UnixDatagram::bind(&path).expect("it binds"), path.into_os_string()),
            (UnixDatagram::bind_addr(&address).expect("it binds"), format!("@{name}").into()),
        ] {
            let notifier = Notifier::to(Some(told));
            notifier.ready();
            notifier.status("2 disks\n1 limited by link");
            notifier.alive();
            notifier.stopping();
            let all = [(); 4].map(|()| heard(&listener));
            assert_eq!(all, ["READY=1", "STATUS=2 disks 1 limited by link", "WATCHDOG=1", "STOPPING=1"]);
        }
        for nobody in [None, Some("".into()), Some("relative".into()), Some("/nobody/listens".into())] {
            Notifier::to(nobody).ready();
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        assert_eq!(interval(Some("30000000"), None, 7), Some(Duration::from_secs(15)));
        assert_eq!(interval(Some("30000000"), Some("7"), 7), Some(Duration::from_secs(15)));
        for (usec, pid) in [(None, None), (Some("0"), None), (Some("x"), None), (Some("1000"), Some("8"))] {
            assert_eq!(interval(usec, pid, 7), None, "{usec:?} {pid:?}");
        }
    }
}
