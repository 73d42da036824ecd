//! What waits to be sent. Pass threads put frames in and never wait; the connections' writers take them out.
//!
//! The control connection takes what is urgent, then what is ordered. All data connections take bulk from one queue, so
//! a fast one carries more than a slow one; without data connections the control connection takes it last.
//!
//! **Invariant**: frames of one class leave the queue in the order in which they came; how many wait is bounded by the
//! session's credit, not here.

use failback_wire::{Class, Frame};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Which connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The control connection.
    Control {
        /// Bulk too: there are no data connections.
        takes_bulk: bool,
    },
    /// A data connection.
    Data,
}

#[derive(Debug, Default)]
struct Waiting {
    urgent: VecDeque<Frame>,
    ordered: VecDeque<Frame>,
    bulk: VecDeque<Frame>,
    bytes: u64,
    is_closed: bool,
}

/// The queues of a link.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    control: Notify,
    bulk: Notify,
    gone: Notify,
}

/// What a lane finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Frames that must not wait for the throttle.
    Control,
    /// Bulk.
    Bulk,
    /// Nothing, and nothing will come.
    Drained,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame of the pass in; `false` once the link is closing.
    pub(crate) fn push(&self, frame: Frame) -> bool {
        let class = frame.class();
        let mut waiting = self.lock();
        if waiting.is_closed {
            return false;
        }
        waiting.bytes += frame.encoded_bytes();
        match class {
            Some(Class::Bulk) => waiting.bulk.push_back(frame),
            Some(Class::Ordered) => waiting.ordered.push_back(frame),
            _ => waiting.urgent.push_back(frame),
        }
        drop(waiting);
        match class {
            Some(Class::Bulk) => self.bulk.notify_one(),
            _ => self.control.notify_one(),
        }
        true
    }

    /// Nothing more comes in; what waits still goes out.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.control.notify_one();
        self.bulk.notify_waiters();
        self.bulk.notify_one();
    }

    /// Forgets the bulk that waits.
    pub(crate) fn discard_bulk(&self) {
        let mut waiting = self.lock();
        let bytes: u64 = waiting.bulk.drain(..).map(|frame| frame.encoded_bytes()).sum();
        waiting.bytes -= bytes;
        drop(waiting);
        self.gone.notify_waiters();
    }

    /// Waits until there is no bulk: what a lane waited to send was given up, or another lane took it.
    pub(crate) async fn bulk_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.lock().bulk.is_empty() {
                return;
            }
            gone.await;
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Waits for something to send.
    pub(crate) async fn ready(&self, lane: Lane) -> Ready {
        loop {
            // Registered before looking: a frame that comes in between is not missed.
            let (control, bulk) = (self.control.notified(), self.bulk.notified());
            if let Some(found) = self.look(lane) {
                return found;
            }
            match lane {
                Lane::Data => bulk.await,
                Lane::Control { takes_bulk: false } => control.await,
                Lane::Control { takes_bulk: true } => tokio::select! {
                    () = control => (),
                    () = bulk => (),
                },
            }
        }
    }

    fn look(&self, lane: Lane) -> Option<Ready> {
        let waiting = self.lock();
        let has_control = !waiting.urgent.is_empty() || !waiting.ordered.is_empty();
        let has_bulk = !waiting.bulk.is_empty();
        match lane {
            Lane::Control { .. } if has_control => Some(Ready::Control),
            Lane::Control { takes_bulk: true } | Lane::Data if has_bulk => Some(Ready::Bulk),
            _ if waiting.is_closed => Some(Ready::Drained),
            _ => None,
        }
    }

    /// Waits for a control frame while bulk may not be sent yet.
    pub(crate) async fn control_ready(&self) {
        loop {
            let control = self.control.notified();
            if self.look(Lane::Control { takes_bulk: false }) == Some(Ready::Control) {
                return;
            }
            control.await;
        }
    }

    /// Takes frames up to so many bytes, and one in any case if there is one.
    pub(crate) fn take(&self, ready: Ready, most_bytes: u64, into: &mut Vec<Frame>) -> u64 {
        let mut waiting = self.lock();
        let mut bytes = 0;
        while bytes == 0 || bytes < most_bytes {
            let frame = match ready {
                Ready::Control => waiting.urgent.pop_front().or_else(|| waiting.ordered.pop_front()),
                Ready::Bulk => waiting.bulk.pop_front(),
                Ready::Drained => None,
            };
            let Some(frame) = frame else { break };
            bytes += frame.encoded_bytes();
            into.push(frame);
        }
        waiting.bytes -= bytes;
        let has_more_bulk = !waiting.bulk.is_empty();
        drop(waiting);
        if ready == Ready::Bulk {
            match has_more_bulk {
                true => self.bulk.notify_one(),
                false => self.gone.notify_waiters(),
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_model::BlockRange;
    use failback_wire::Message;

    const BOTH: Lane = Lane::Control { takes_bulk: true };
    const CONTROL: Lane = Lane::Control { takes_bulk: false };

    fn frame(class: Class, number: u64) -> Frame {
        let message = match class {
            Class::Link => Message::Ping { nonce: number },
            Class::Urgent => Message::Acknowledged { below: number },
            Class::Ordered => Message::DigestCredit { blocks: number },
            Class::Bulk => Message::Zero { sequence: number, ranges: vec![BlockRange::new(0, 1)] },
        };
        assert_eq!(message.class(), class);
        message.encode()
    }

    fn take(outbox: &Outbox, ready: Ready, most_bytes: u64) -> Vec<Message> {
        let mut frames = Vec::new();
        outbox.take(ready, most_bytes, &mut frames);
        frames.iter().map(|frame| Message::decode(frame).expect("a message")).collect()
    }

    #[test]
    fn what_is_urgent_leaves_first_and_each_class_in_its_order() {
        let outbox = Outbox::default();
        for number in 0..2 {
            for class in [Class::Bulk, Class::Ordered, Class::Urgent] {
                assert!(outbox.push(frame(class, number)));
            }
        }
        assert_eq!(outbox.look(BOTH), Some(Ready::Control));
        assert_eq!(outbox.look(Lane::Data), Some(Ready::Bulk));
        let control = take(&outbox, Ready::Control, u64::MAX);
        assert_eq!(
            control,
            [
                Message::Acknowledged { below: 0 },
                Message::Acknowledged { below: 1 },
                Message::DigestCredit { blocks: 0 },
                Message::DigestCredit { blocks: 1 },
            ]
        );
        assert_eq!(outbox.look(CONTROL), None);
        assert_eq!(outbox.look(BOTH), Some(Ready::Bulk));
        assert_eq!(take(&outbox, Ready::Bulk, 0).len(), 1, "one in any case");
        assert_eq!(take(&outbox, Ready::Bulk, u64::MAX).len(), 1);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_closed_outbox_gives_out_what_waits_and_takes_nothing() {
        let outbox = Outbox::default();
        assert!(outbox.push(frame(Class::Bulk, 0)));
        outbox.close();
        assert!(!outbox.push(frame(Class::Urgent, 0)));
        assert_eq!(outbox.look(CONTROL), Some(Ready::Drained));
        assert_eq!(outbox.look(Lane::Data), Some(Ready::Bulk));
        assert_eq!(take(&outbox, Ready::Bulk, u64::MAX).len(), 1);
        assert_eq!(outbox.look(Lane::Data), Some(Ready::Drained));
    }

    #[tokio::test]
    async fn what_is_given_up_neither_goes_out_nor_holds_up_who_waits_to_send_it() {
        let outbox = std::sync::Arc::new(Outbox::default());
        outbox.push(frame(Class::Bulk, 0));
        outbox.push(frame(Class::Urgent, 1));
        let waiting = {
            let outbox = outbox.clone();
            tokio::spawn(async move { outbox.bulk_gone().await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outbox.discard_bulk();
        waiting.await.expect("no panic");
        outbox.close();
        assert_eq!(outbox.ready(Lane::Data).await, Ready::Drained);
        assert_eq!(take(&outbox, Ready::Control, u64::MAX), [Message::Acknowledged { below: 1 }]);
        assert_eq!(outbox.bytes(), 0);
    }

    #[tokio::test]
    async fn every_writer_that_waits_hears_of_work_and_of_the_end() {
        let outbox = std::sync::Arc::new(Outbox::default());
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let outbox = outbox.clone();
                tokio::spawn(async move {
                    let mut taken = 0;
                    while outbox.ready(Lane::Data).await == Ready::Bulk {
                        taken += take(&outbox, Ready::Bulk, 0).len();
                        tokio::task::yield_now().await;
                    }
                    taken
                })
            })
            .collect();
        tokio::task::yield_now().await;
        for number in 0..100 {
            assert!(outbox.push(frame(Class::Bulk, number)));
        }
        outbox.close();
        let mut each = Vec::new();
        for writer in writers {
            each.push(writer.await.expect("no panic"));
        }
        assert_eq!(each.iter().sum::<usize>(), 100);
        assert!(each.iter().all(|&taken| taken > 0), "{each:?}");
    }
}
