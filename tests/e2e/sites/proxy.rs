//! A link that counts what crosses it and that can be cut: a relay in front of the master target.

use super::PATIENCE;
use rustix::net::{Shutdown, shutdown};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The relay; its connections end with it.
pub(crate) struct Proxy {
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    is_down: bool,
    is_over: bool,
    connections: Vec<TcpStream>,
    to_target: u64,
}

impl Proxy {
    /// Relays connections from one address to another.
    pub(crate) fn new(from: SocketAddr, target: SocketAddr) -> Self {
        let listener = Arc::new(TcpListener::bind(from).expect("the address is free"));
        let shared = Arc::new(Shared { target, state: Mutex::default(), moved: Condvar::new() });
        let (accepting, relay) = (Arc::clone(&listener), Arc::clone(&shared));
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                if relay.state().is_over {
                    return;
                }
                if let Ok(stream) = stream {
                    relay.take(stream);
                }
            }
        });
        Self { listener, shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it listens")
    }

    /// Cuts every connection; new ones are cut at once until [`Self::heal`].
    pub(crate) fn cut(&self) {
        let mut state = self.shared.state();
        state.is_down = true;
        state.end_connections();
    }

    /// Lets connections through again.
    pub(crate) fn heal(&self) {
        self.shared.state().is_down = false;
    }

    /// Bytes that crossed toward the target so far.
    pub(crate) fn to_target(&self) -> u64 {
        self.shared.state().to_target
    }

    /// Waits until so many bytes more have crossed toward the target.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let state = self.shared.state();
        let until = state.to_target + more;
        let waited = self.shared.moved.wait_timeout_while(state, PATIENCE, |state| state.to_target < until);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{} of {until} bytes crossed the link", state.to_target);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_over = true;
        state.end_connections();
        drop(state);
        // Wakes whoever accepts.
        let _ = shutdown(&*self.listener, Shutdown::Both);
    }
}

impl State {
    fn end_connections(&mut self) {
        for stream in self.connections.drain(..) {
            // The other end may have been first.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relays a connection both ways, or drops it where the link is down or nobody listens behind it.
    fn take(self: &Arc<Self>, near: TcpStream) {
        if self.state().is_down {
            return;
        }
        let Ok(far) = TcpStream::connect_timeout(&self.target, Duration::from_secs(5)) else { return };
        let copies = (|| Ok::<_, std::io::Error>([near.try_clone()?, far.try_clone()?]))();
        let Ok(copies) = copies else { return };
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("a socket");
        }
        let mut state = self.state();
        if state.is_down || state.is_over {
            return;
        }
        state.connections.extend(copies);
        drop(state);
        let ends = (near.try_clone(), far.try_clone());
        let (Ok(near_copy), Ok(far_copy)) = ends else { return };
        self.relay(near, far_copy, |state, length| state.to_target += length);
        self.relay(far, near_copy, |_, _| ());
    }

    fn relay(self: &Arc<Self>, mut from: TcpStream, mut to: TcpStream, count: fn(&mut State, u64)) {
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
                count(&mut shared.state(), length as u64);
                shared.moved.notify_all();
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
            let _ = from.shutdown(std::net::Shutdown::Read);
        });
    }
}
