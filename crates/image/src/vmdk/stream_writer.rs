//! Writing a streamOptimized disk in one pass.
//!
//! Blocks come in nearly ascending order from several threads. Grains wait until the window is full; then the lowest
//! goes out for good, so what comes late by less than a window finds its place. Whoever completes a grain deflates it.
//!
//! **Invariant**: grains lie in the file in the disk's order and each once; memory is bounded by the window; the file has
//! its name only when `close` has made the footer durable, and without one it is refused as cut short.

mod emitter;
mod window;

use super::embedded;
use super::sparse::refused;
use super::stream::StreamExtent;
use crate::vmdk::parts::Parts;
use crate::{Image, ImageFormat, ImageIdentity, Provisioning};
use emitter::Emitter;
use failback_blockio::{Access, Device, DiskError, NewFiles, Operation, ReadPath, UnitSource, Zeroing};
use failback_format::vmdk::descriptor::{CreateType, Descriptor, SECTOR_BYTES};
use failback_format::vmdk::sparse::{GrainGeometry, SparseHeader};
use failback_format::vmdk::stream::new_stream_header;
use failback_model::limits::STREAM_WINDOW_BYTES;
use failback_model::{ByteRange, Code, DiskGeometry, Finding, SectorSize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use window::{Lowest, Put, Window, pack};

/// A streamOptimized disk on its way into a file.
#[derive(Debug)]
pub struct StreamWriter {
    path: PathBuf,
    device: Arc<dyn Device>,
    header: SparseHeader,
    descriptor: Descriptor,
    window: Mutex<Window>,
    /// Told when a grain was deflated.
    packed: Condvar,
    /// Held by whoever writes grains out. Taken before `window`, never the other way round.
    emitter: Mutex<Emitter>,
    /// The finished file, from which it can be read.
    finished: OnceLock<StreamExtent>,
    /// The file under its draft's name, which it loses where it is never finished.
    files: Mutex<Option<NewFiles>>,
    failed: OnceLock<String>,
}

impl StreamWriter {
    /// Begins a disk in an empty file; `descriptor` is the text to embed.
    pub fn create(
        path: &Path,
        device: Arc<dyn Device>,
        length_bytes: u64,
        descriptor: &str,
    ) -> Result<Self, DiskError> {
        let refuse = |code, reason: String| Err(DiskError::new(code, Operation::Create, path, reason));
        if !length_bytes.is_multiple_of(SECTOR_BYTES) {
            let reason = format!("{length_bytes} bytes are no multiple of 512");
            return refuse(Code::ImageSizeUnsupported, reason);
        }
        let header = new_stream_header(length_bytes / SECTOR_BYTES)
            .map_err(|error| refused(path, Operation::Create, error))?;
        let room = (header.descriptor_sectors * SECTOR_BYTES) as usize;
        if descriptor.len() > room {
            return refuse(Code::CreateFailed, format!("its descriptor is longer than {room} bytes"));
        }
        let kind = CreateType::StreamOptimized;
        let parsed = embedded::judge(path, descriptor.as_bytes(), &kind, length_bytes, Access::Write)?;
        let mut head = header.to_bytes().to_vec();
        head.extend_from_slice(descriptor.as_bytes());
        device.write_at(0, &head)?;
        device.set_length(header.overhead_sectors * SECTOR_BYTES)?;
        Ok(Self {
            path: path.into(),
            header,
            descriptor: parsed,
            window: Mutex::new(Window::new(header.geometry)),
            packed: Condvar::new(),
            emitter: Mutex::new(Emitter::new(device.clone(), &header)),
            finished: OnceLock::new(),
            files: Mutex::new(None),
            failed: OnceLock::new(),
            device,
        })
    }

    /// The same for a draft, which `close` makes a file.
    pub(super) fn named_by(mut self, files: NewFiles) -> Self {
        self.files = Mutex::new(Some(files));
        self
    }

    const fn geometry_in_grains(&self) -> GrainGeometry {
        self.header.geometry
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // Every change under the lock is complete before anything can panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, code: Code, operation: Operation, at: u64, reason: impl Into<String>) -> DiskError {
        DiskError::new(code, operation, &self.path, reason).at(at)
    }

    fn checked(&self, operation: Operation, at: u64, length_bytes: u64) -> Result<ByteRange, DiskError> {
        if let Some(first) = self.failed.get() {
            let reason = format!("an earlier write failed ({first}); create the image anew");
            return Err(self.error(Code::WriteFailed, operation, at, reason));
        }
        let end = self.geometry_in_grains().length_bytes();
        ByteRange::at(at, length_bytes).filter(|range| range.end() <= end).ok_or_else(|| {
            let reason = format!("{length_bytes} bytes from here pass the disk's end at {end}");
            self.error(Code::WriteFailed, operation, at, reason)
        })
    }

    fn is_late(&self, operation: Operation, at: u64) -> DiskError {
        let reason =
            "a streamOptimized image is written once in ascending order, and these bytes have gone out";
        self.error(Code::ImageReadOnlyKind, operation, at, reason)
    }

    /// Puts bytes into one grain, deflates it if they complete it, and lets grains out while there are too many.
    fn put(
        &self,
        operation: Operation,
        grain: u64,
        part: ByteRange,
        bytes: &[&[u8]],
    ) -> Result<(), DiskError> {
        let mut window = self.lock();
        while window.is_packing(grain) {
            window = self.packed.wait(window).unwrap_or_else(PoisonError::into_inner);
        }
        let put = window.put(grain, part, bytes).map_err(|error| refused(&self.path, operation, error))?;
        let mut is_full = window.bytes() > STREAM_WINDOW_BYTES;
        drop(window);
        match put {
            Put::Late => return Err(self.is_late(operation, part.start())),
            Put::Waiting => {}
            Put::Complete(whole) => {
                let packed = pack(self.geometry_in_grains(), grain, &whole);
                let mut window = self.lock();
                window.finish(grain, packed);
                is_full = window.bytes() > STREAM_WINDOW_BYTES;
                drop(window);
                self.packed.notify_all();
            }
        }
        if is_full { self.let_out(STREAM_WINDOW_BYTES) } else { Ok(()) }
    }

    /// Writes the lowest grains until no more than `keep_bytes` wait.
    fn let_out(&self, keep_bytes: u64) -> Result<(), DiskError> {
        let mut emitter = self.emitter.lock().unwrap_or_else(PoisonError::into_inner);
        let mut window = self.lock();
        while window.bytes() > keep_bytes {
            let (grain, packed) = match window.take_lowest() {
                None => break,
                Some(Lowest::Packing) => {
                    window = self.packed.wait(window).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Some(Lowest::Packed(grain, packed)) => (grain, packed),
                Some(Lowest::Filling(grain, bytes)) => {
                    drop(window);
                    let packed = pack(self.geometry_in_grains(), grain, &bytes);
                    window = self.lock();
                    (grain, packed)
                }
            };
            drop(window);
            if let Some(packed) = packed {
                self.latch(emitter.emit(grain, &packed))?;
            }
            window = self.lock();
        }
        Ok(())
    }

    fn latch<T>(&self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &result {
            let _first_wins = self.failed.set(error.to_string());
        }
        result
    }
}

impl UnitSource for StreamWriter {
    fn geometry(&self) -> DiskGeometry {
        DiskGeometry { length_bytes: self.geometry_in_grains().length_bytes(), sector_size: SectorSize::B512 }
    }

    fn name(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let range = self.checked(Operation::Read, offset_bytes, buffer.len() as u64)?;
        if let Some(finished) = self.finished.get() {
            return finished.read_at(offset_bytes, buffer);
        }
        let window = self.lock();
        if let Some((_, part)) =
            self.geometry_in_grains().cut(range).find(|&(grain, _)| window.was_written(grain))
        {
            let reason =
                "a streamOptimized image is not read back while it is written, only when it is closed";
            return Err(self.error(Code::ImageUnsupported, Operation::Read, part.start(), reason));
        }
        buffer.fill(0);
        Ok(())
    }

    fn next_data(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        if let Some(finished) = self.finished.get() {
            return finished.next_data(from_bytes);
        }
        let geometry = self.geometry_in_grains();
        let next = self.lock().next_written(from_bytes / geometry.grain_bytes());
        Ok(next.map(|grain| {
            let range = geometry.grain_range(grain);
            ByteRange::new(range.start().max(from_bytes), range.end().max(from_bytes))
        }))
    }
}

impl Image for StreamWriter {
    fn identity(&self) -> ImageIdentity {
        embedded::identity(ImageFormat::VmdkStreamOptimized, &self.path, &self.descriptor)
    }

    fn provisioning(&self) -> Provisioning {
        Provisioning::Thin
    }

    fn allocated_bytes(&self) -> Result<u64, DiskError> {
        self.device.allocated_bytes()
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.write_vectored_at(offset_bytes, &[bytes])
    }

    fn write_vectored_at(&self, offset_bytes: u64, parts: &[&[u8]]) -> Result<(), DiskError> {
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let range = self.checked(Operation::Write, offset_bytes, length_bytes)?;
        let mut cursor = Parts::new(parts);
        for (grain, part) in self.geometry_in_grains().cut(range) {
            self.put(Operation::Write, grain, part, &cursor.take(part.length_bytes() as usize))?;
        }
        Ok(())
    }

    fn zero(&self, range: ByteRange, _zeroing: Zeroing) -> Result<(), DiskError> {
        let range = self.checked(Operation::Zero, range.start(), range.length_bytes())?;
        let geometry = self.geometry_in_grains();
        let zeros = vec![0; geometry.grain_bytes() as usize];
        let mut grain = range.start() / geometry.grain_bytes();
        // What was never written is zero already.
        loop {
            let Some(written) = self.lock().next_written(grain) else { return Ok(()) };
            let Some(part) = geometry.grain_range(written).intersection(range) else { return Ok(()) };
            self.put(Operation::Zero, written, part, &[&zeros[..part.length_bytes() as usize]])?;
            grain = written + 1;
        }
    }

    fn drop_cached(&self) -> ReadPath {
        match self.finished.get() {
            Some(finished) => finished.drop_cached(),
            None => self.device.drop_cached(),
        }
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.checked(Operation::Flush, 0, 0)?;
        // What waits in the window has no place yet: only `close` makes an image of it.
        self.latch(self.device.sync())
    }

    fn grow(&self, _length_bytes: u64) -> Result<(), DiskError> {
        let reason = "a streamOptimized image has its size from the start";
        Err(DiskError::new(Code::ImageReadOnlyKind, Operation::Resize, &self.path, reason))
    }

    fn close(&self) -> Result<(), DiskError> {
        self.checked(Operation::Flush, 0, 0)?;
        self.let_out(0)?;
        let mut emitter = self.emitter.lock().unwrap_or_else(PoisonError::into_inner);
        self.latch(emitter.finish())?;
        if let Some(files) = self.files.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.latch(files.keep())?;
        }
        self.lock().settle_all();
        if self.finished.get().is_none() {
            let _first = self.finished.set(StreamExtent::open(self.device.clone())?);
        }
        Ok(())
    }

    fn check(&self) -> Result<Vec<Finding>, DiskError> {
        self.checked(Operation::Read, 0, 0)?;
        self.finished.get().map_or_else(|| Ok(Vec::new()), StreamExtent::check)
    }
}
