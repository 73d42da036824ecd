//! A connection as its daemon's status tells it.

use super::LinkStatus;
use failback_transport::{LinkHandle, Rate, SocketChoice};
use std::collections::BTreeMap;

impl LinkStatus {
    /// Looks at a link whose peer's clock was so many milliseconds ahead.
    pub fn of(link: &LinkHandle, clock_offset_ms: i64) -> Self {
        let stats = link.stats();
        let control = stats.connections.first();
        let remote = control.and_then(|one| one.remote);
        Self {
            peer: link.peer().to_string(),
            address: remote.map_or_else(String::new, |remote| remote.to_string()),
            data_connections: data_connections(link),
            clock_offset_ms,
            sockets: control.map(|one| sockets(&one.socket)).unwrap_or_default(),
            bandwidth_bytes_per_second: rate(link),
        }
    }

    /// Looks again at what may have changed: connections join after the first, and schedules change rates.
    pub(super) fn renew(&mut self, link: &LinkHandle) {
        self.data_connections = data_connections(link);
        self.bandwidth_bytes_per_second = rate(link);
    }
}

fn data_connections(link: &LinkHandle) -> u32 {
    link.stats().connections.len().saturating_sub(1) as u32
}

fn rate(link: &LinkHandle) -> Option<u64> {
    match link.throttle().rate() {
        Rate::Unlimited => None,
        Rate::BytesPerSecond(rate) => Some(rate.get()),
    }
}

fn sockets(choice: &SocketChoice) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("congestion".into(), choice.congestion.clone()),
        ("send_buffer_bytes".into(), choice.send_buffer_bytes.to_string()),
        ("receive_buffer_bytes".into(), choice.receive_buffer_bytes.to_string()),
        ("nodelay".into(), choice.is_nodelay.to_string()),
        ("keepalive".into(), choice.is_keepalive.to_string()),
    ])
}
