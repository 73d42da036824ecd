//! A socket below TLS that counts what crosses it and reads it in large pieces: the TLS layer asks for a few KiB at a time.
//!
//! **Invariant**: bytes are counted as they cross, TLS records and their overhead included.

use failback_model::limits::{SOCKET_READ_BYTES, UNKNOWN_READ_BYTES};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What crossed, shared with whoever reports it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    is_known: AtomicBool,
}

impl Meter {
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// The peer is known: the socket may be read in larger pieces.
    pub(crate) fn open_up(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// The socket.
pub(crate) struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<S> Metered<S> {
    /// Reads in small pieces until the peer is known.
    pub(crate) fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter, buffer: vec![0; UNKNOWN_READ_BYTES].into(), start: 0, end: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.start == this.end {
            if this.buffer.len() < SOCKET_READ_BYTES && this.meter.is_known.load(Ordering::Relaxed) {
                this.buffer = vec![0; SOCKET_READ_BYTES].into();
            }
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer))?;
            (this.start, this.end) = (0, buffer.filled().len());
            this.meter.received_bytes.fetch_add(this.end as u64, Ordering::Relaxed);
        }
        let count = out.remaining().min(this.end - this.start);
        out.put_slice(&this.buffer[this.start..this.start + count]);
        this.start += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.meter.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
