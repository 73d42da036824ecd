//! What a power cut leaves of a device: all that was made durable, and any part of the rest.
//!
//! **Invariant**: what a finished sync covers is there, byte for byte and in order. Of anything else, each write, zeroing
//! or change of length is there whole, torn at a sector of 512 bytes, or not at all, by chance.

use crate::Random;
use failback_blockio::{Action, Device, Event, after_cut};

/// Most sectors of a torn write or zeroing that arrive. Longer than a page, shorter than most blocks.
const TORN_SECTORS_MOST: u64 = 24;

/// Does to a device what a power cut after these events leaves for certain of device `number`, and by chance some of what
/// it may leave. `onto` holds what that device held before the first event.
pub fn leave(events: &[Event], number: usize, onto: &dyn Device, random: &mut Random) {
    let apply = |action: &Action| match action {
        // Zeroing never lengthens a file: where the length was lost, so are the bytes to zero.
        Action::Zero { range, .. } if range.end() > onto.length_bytes() => {}
        _ => action.apply(onto).expect("a copy of the device takes what the device took"),
    };
    let state = after_cut(events, number);
    state.durable.iter().for_each(|&at| apply(&events[at].action));
    // Now and then all of it is there, or none: the prefix as it was written, and the flushed state.
    let share = random.below(5);
    for &at in &state.uncertain {
        match share.max(random.below(4)) {
            0 => {}
            1 => events[at].action.torn(random.below(TORN_SECTORS_MOST)).iter().for_each(apply),
            _ if share == 4 && random.below(2) == 0 => {}
            _ => apply(&events[at].action),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDevice;
    use failback_blockio::Recording;

    #[test]
    fn what_was_synced_stays_and_the_rest_may_be_torn() {
        let recording = Recording::new();
        let device = recording.add(std::sync::Arc::new(MemoryDevice::new(64 << 10)));
        device.write_at(0, &[1; 8192]).expect("written");
        device.sync().expect("synced");
        device.write_at(4096, &[2; 8192]).expect("written");
        let (events, mut random) = (recording.events(), Random::new(5));
        let mut seen = [false; 3];
        for _ in 0..200 {
            let left = MemoryDevice::new(64 << 10);
            leave(&events, 0, &left, &mut random);
            let bytes = left.to_bytes();
            assert!(bytes[..4096] == [1; 4096], "the first page was synced and is not written again");
            let new = bytes[4096..12_288].iter().take_while(|&&byte| byte == 2).count();
            assert!(new % 512 == 0, "torn at a sector, not after {new} bytes");
            let old = if new < 4096 { &bytes[4096 + new..8192] } else { &[] };
            assert!(old.iter().all(|&byte| byte == 1), "old behind the tear");
            seen[usize::from(new > 0) + usize::from(new == 8192)] = true;
        }
        assert_eq!(seen, [true; 3], "none, a part, and all of it");
    }
}
