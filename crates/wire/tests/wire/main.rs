//! Frames as they are: golden bytes, round trips of everything valid, and no bytes that break the decoder.

mod golden;
mod hostile;
mod valid;
