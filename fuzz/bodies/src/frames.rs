//! Frames and messages: whatever decodes encodes to the same bytes.

use bytes::Bytes;
use failback_model::limits::FRAME_MAX_BYTES;
use failback_wire::{Frame, Message};

/// Cuts frames off the bytes and decodes each.
pub fn frames(data: &[u8]) {
    let mut rest = Bytes::copy_from_slice(data);
    while let Ok((frame, behind)) = Frame::split_from(&rest) {
        assert!(frame.encoded_bytes() <= FRAME_MAX_BYTES as u64);
        assert_eq!(frame.encoded_bytes() as usize + behind.len(), rest.len());
        if let Ok(message) = Message::decode(&frame) {
            let again = message.encode();
            assert_eq!((again.head(), again.payload()), (frame.head(), frame.payload()), "{message:?}");
            assert_eq!(Message::decode(&again), Ok(message));
        }
        rest = behind;
    }
}
