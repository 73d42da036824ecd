//! What is on its way between the two ends: a control stream that keeps its order, and others that do not.
//!
//! Every message crosses as a frame, so that each one that a machine sends is also one that decodes.

use failback_testkit::Random;
use failback_wire::{Class, Frame, Message};
use std::collections::VecDeque;

/// One direction.
#[derive(Default)]
pub(crate) struct Link {
    control: VecDeque<Frame>,
    others: Vec<Frame>,
    /// Everything that was ever sent, for a hostile end to say again; empty where that is not asked for.
    pub(crate) history: Option<Vec<Frame>>,
}

impl Link {
    pub(crate) fn send(&mut self, message: &Message) {
        let frame = message.encode();
        if let Some(history) = &mut self.history {
            history.push(frame.clone());
        }
        match message.class() {
            Class::Ordered => self.control.push_back(frame),
            Class::Link | Class::Urgent | Class::Bulk => self.others.push(frame),
        }
    }

    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    pub(crate) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The oldest message of the control stream.
    pub(crate) fn take_control(&mut self) -> Option<Message> {
        self.control.pop_front().map(|frame| decode(&frame))
    }

    /// Any message of the other streams.
    pub(crate) fn take_other(&mut self, random: &mut Random) -> Option<Message> {
        let index = random.below(self.others.len().max(1) as u64) as usize;
        (index < self.others.len()).then(|| decode(&self.others.swap_remove(index)))
    }
}

/// A frame that a machine sent.
pub(crate) fn decode(frame: &Frame) -> Message {
    Message::decode(frame).expect("a machine sends what decodes")
}
