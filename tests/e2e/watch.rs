//! Waits for a file to be written to, so that a test can strike in the middle of a run without guessing at times.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use std::path::Path;

/// Fires once its file was written to.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Watches from now on.
    pub(crate) fn writes_to(file: &Path) -> Self {
        let events = init(CreateFlags::CLOEXEC).expect("the kernel has inotify");
        add_watch(&events, file, WatchFlags::MODIFY).expect("can be watched");
        Self(events)
    }

    /// Returns at the first write.
    pub(crate) fn wait(&self) {
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let fired =
            poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)).expect("can be waited for");
        assert_eq!(fired, 1, "nothing was written within a minute");
    }
}
