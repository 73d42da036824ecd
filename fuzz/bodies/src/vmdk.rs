//! VMDK: descriptors as text, sparse and streamOptimized files as sketches.

use crate::disk::{explore, rewrite};
use crate::sketch::sketched;
use failback_format::vmdk::descriptor::{Descriptor, ExtentKind, NameForm, NewExtent, is_content_id};
use failback_format::vmdk::sparse::SparseHeader;
use failback_image::vmdk::{SparseExtent, StreamExtent, open_on};
use failback_image::{Access, Image};
use failback_testkit::MemoryDevice;
use std::sync::Arc;

/// Parses a descriptor, edits it, and looks at what changed.
pub fn vmdk_descriptor(data: &[u8]) {
    let _signature = Descriptor::is_signature(data);
    let Ok(descriptor) = Descriptor::parse(data) else { return };
    assert_eq!(descriptor.bytes(), data);
    assert_eq!(descriptor.length_bytes(), descriptor.extents().last().map_or(0, |last| last.disk.end()));
    for extent in descriptor.extents() {
        if extent.name_form() == NameForm::Beside {
            assert!(!extent.name.contains(&b'/') && extent.name != b".." && !extent.name.is_empty());
        }
        let (_name, _range) = (extent.display_name(), extent.file_range());
    }
    let new = 0x1234_5678;
    assert!(is_content_id(new));
    let edited = descriptor.with_content_id(new).expect("another content id is as good");
    assert_eq!((edited.content_id(), edited.extents().len()), (new, descriptor.extents().len()));
    assert_eq!((edited.uuid(), edited.length_bytes()), (descriptor.uuid(), descriptor.length_bytes()));
    assert_eq!(edited.with_content_id(new).as_ref(), Ok(&edited), "a second edit changes nothing");
    if let Ok(in_place) = descriptor.with_content_id_in_place(new) {
        assert_eq!((in_place.bytes().len(), in_place.content_id()), (data.len(), new));
    }
    grown(&descriptor);
}

fn grown(descriptor: &Descriptor) {
    let Some(last) = descriptor.extents().last() else { return };
    let last_bytes = last.disk.length_bytes() + 512;
    let added = NewExtent { length_bytes: 1024, kind: ExtentKind::Sparse, name: "added-s002.vmdk".into() };
    for added in [vec![], vec![added]] {
        let Ok(grown) = descriptor.grown(last_bytes, &added) else { continue };
        let more = 512 + added.len() as u64 * 1024;
        assert_eq!(grown.length_bytes(), descriptor.length_bytes() + more);
        assert_eq!(grown.extents().len(), descriptor.extents().len() + added.len());
        assert_eq!(grown.content_id(), descriptor.content_id());
    }
}

/// Opens a sparse extent, alone and as a disk; reads and writes it.
pub fn vmdk_sparse(data: &[u8]) {
    header(data);
    let device = sketched(data);
    if let Ok(extent) = SparseExtent::open(Arc::new(device.duplicate())) {
        assert!(!extent.header().is_compressed());
    }
    disk(device);
}

/// Opens a streamOptimized extent, alone and as a disk; reads it.
pub fn vmdk_stream(data: &[u8]) {
    let device = sketched(data);
    if let Ok(extent) = StreamExtent::open(Arc::new(device.duplicate())) {
        assert!(extent.header().is_compressed());
    }
    disk(device);
}

fn disk(device: MemoryDevice) {
    let device = Arc::new(device);
    let Ok(image) = open_on(device.clone(), Access::Read) else { return };
    explore(image.as_ref());
    let reopen = || open_on(device.clone(), Access::Write);
    let Ok(image): Result<Arc<dyn Image>, _> = reopen() else { return };
    rewrite(image.as_ref(), reopen);
}

/// The first run of a sketch is the header: its known fields come back.
fn header(data: &[u8]) {
    let Some(sector) = data.get(10..).and_then(<[u8]>::first_chunk) else { return };
    if let Ok(header) = SparseHeader::parse(sector, 0) {
        assert_eq!(SparseHeader::parse(&header.to_bytes(), 0), Ok(header));
    }
}
