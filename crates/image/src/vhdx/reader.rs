//! A device as the crate wants to read it.
//!
//! **Invariant**: the front of the file is given from the copy that was judged, whatever the file holds by now.

use failback_blockio::Device;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// A position in a device whose front is fixed.
pub(super) struct DeviceReader {
    device: Arc<dyn Device>,
    head: Vec<u8>,
    at: u64,
}

impl DeviceReader {
    pub(super) fn new(device: Arc<dyn Device>, head: Vec<u8>) -> Self {
        Self { device, head, at: 0 }
    }
}

impl Read for DeviceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head_left = (self.head.len() as u64).saturating_sub(self.at);
        let left = if head_left > 0 { head_left } else { self.device.length_bytes().saturating_sub(self.at) };
        let count = (buffer.len() as u64).min(left) as usize;
        let part = &mut buffer[..count];
        if head_left > 0 {
            part.copy_from_slice(&self.head[self.at as usize..][..count]);
        } else if count > 0 {
            self.device.read_at(self.at, part).map_err(io::Error::other)?;
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for DeviceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.device.length_bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
