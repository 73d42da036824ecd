//! Lines of bounded length and bounded time, from and to a peer that may be slow, silent or hostile.

use failback_model::limits::{CONTROL_IDLE_MAX, CONTROL_LINE_MAX, CONTROL_LINE_MAX_BYTES};
use serde::Serialize;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// What came instead of a line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The peer left.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came, or the rest of a line did not.
    #[error("nothing came in time")]
    Late,
    /// More than a line may have.
    #[error("a line has more than {CONTROL_LINE_MAX_BYTES} bytes")]
    Long,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The next line, without its end. Waits long for its beginning, and not long for the rest.
pub(super) async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, LineError> {
    let begun = timeout(CONTROL_IDLE_MAX, reader.fill_buf()).await.map_err(|_| LineError::Late)?;
    if begun?.is_empty() {
        return Err(LineError::Closed);
    }
    timeout(CONTROL_LINE_MAX, rest_of_line(reader)).await.unwrap_or(Err(LineError::Late))
}

async fn rest_of_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Err(LineError::Closed);
        }
        let newline = bytes.iter().position(|&byte| byte == b'\n');
        let taken = newline.unwrap_or(bytes.len());
        if line.len() + taken >= CONTROL_LINE_MAX_BYTES {
            return Err(LineError::Long);
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(taken + usize::from(newline.is_some()));
        if newline.is_some() {
            return Ok(line);
        }
    }
}

/// Writes a value as one line; a peer that does not take it in time is given up.
pub(super) async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
    line.push(b'\n');
    let written = timeout(CONTROL_LINE_MAX, writer.write_all(&line)).await;
    Ok(written.map_err(|_| LineError::Late)??)
}
