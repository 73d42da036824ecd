//! An NBD server that says what the input says, whatever it is asked.

use failback_model::limits::{DISK_MAX_BYTES, NBD_EXTENTS_MAX, NBD_REQUEST_MAX_BYTES};
use failback_remote::nbd::{Export, Transmission, enter, greet};
use std::io::{Cursor, Read, Result, Write};

/// Longest read that is asked for: several requests of the smallest size.
const READ_MAX_BYTES: usize = 1 << 20;

struct Server<'a>(Cursor<&'a [u8]>);

impl Read for Server<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Server<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Negotiates and reads; with a first byte that is odd, the export stands and the bytes are replies.
pub fn nbd(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let mut server = Server(Cursor::new(data));
    let export = if choice & 1 == 0 {
        if greet(&mut server).is_err() {
            return;
        }
        let Ok(export) = enter(&mut server, "disk", Some("base:allocation")) else { return };
        export
    } else {
        Export {
            length_bytes: 1 << 30,
            flags: 0,
            min_block_bytes: 1,
            request_bytes: 8 << (choice >> 5),
            is_structured: choice & 2 == 0,
            context: Some(1),
        }
    };
    assert!(export.length_bytes <= DISK_MAX_BYTES && export.request_bytes > 0);
    assert!(export.request_bytes.is_multiple_of(export.min_block_bytes));
    assert!(export.request_bytes <= NBD_REQUEST_MAX_BYTES);
    assert!(export.length_bytes.is_multiple_of(export.min_block_bytes.into()));
    let length = (3 * export.request_bytes as usize).min(READ_MAX_BYTES).min(export.length_bytes as usize);
    let length = length - length % export.min_block_bytes as usize;
    let has_context = export.context.is_some();
    let mut server = Transmission::new(server, export);
    let mut first = vec![0x55; length];
    if choice & 4 != 0 && has_context {
        if let Ok(extents) = server.extents(0, 1 << 20) {
            assert!(!extents.is_empty() && extents.len() <= NBD_EXTENTS_MAX);
            assert!(extents.iter().all(|(length, _)| *length > 0));
        }
        return;
    }
    if server.read(0, &mut first).is_err() {
        return;
    }
    // The same words over a buffer that held something else: every byte came from the server.
    let mut again = Transmission::new(Server(Cursor::new(data)), server.export().clone());
    if choice & 1 != 0 {
        let mut second = vec![0xaa; length];
        again.read(0, &mut second).expect("it was read before");
        assert_eq!(first, second, "a byte did not come from the server");
    }
}
