//! Images and manifests: sound ones of every kind, and some that are hostile in a way that needs a structure.

use crate::{Seed, vhdx};
use failback_engine::manifest::Manifest;
use failback_format::vhd::{DynamicHeader, VhdFooter};
use failback_format::vmdk::sparse::SparseHeader;
use failback_fuzz_bodies::sketch_of;
use failback_image::{CreateOptions, VmdkType, vmdk};
use failback_model::{BlockIndex, BlockSize, Digest, Layout};
use failback_testkit::MemoryDevice;
use std::sync::Arc;

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = descriptors();
    seeds.extend(sparse());
    seeds.push(("vmdk_stream", "two-grains", stream(&[0, 131_072])));
    seeds.push(("vmdk_stream", "empty", stream(&[])));
    seeds.extend(vhds());
    seeds.push(("vhdx", "one-block", sketch_of(&vhdx::sample())));
    seeds.extend(manifests());
    seeds
}

fn descriptors() -> Vec<Seed> {
    let esxi = "# Disk DescriptorFile\nversion=3\nencoding=\"UTF-8\"\nCID=fb183c20\nparentCID=ffffffff\n\
        isNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\n\n# Extent description\nRW 33554432 VMFS \"web01-flat.vmdk\"\n\n\
        # Change Tracking File\nchangeTrackPath=\"web01-ctk.vmdk\"\n\n# The Disk Data Base \n#DDB\n\n\
        ddb.adapterType = \"pvscsi\"\nddb.geometry.cylinders = \"2088\"\nddb.geometry.heads = \"255\"\n\
        ddb.geometry.sectors = \"63\"\nddb.longContentID = \"00112233445566778899aabbfb183c20\"\n\
        ddb.thinProvisioned = \"1\"\nddb.uuid = \"60 00 C2 9b 7c a8 b3 2e-0f 96 8d 6e 33 14 1f 58\"\n\
        ddb.virtualHWVersion = \"19\"\n";
    let split = "# Disk DescriptorFile\r\nversion=1\r\nCID=00000001\r\nparentCID=ffffffff\r\n\
        createType=\"twoGbMaxExtentSparse\"\r\nRW 4192256 SPARSE \"a b-s001.vmdk\"\r\nRW 100 ZERO\r\n\
        RW 2048 SPARSE \"a b-s002.vmdk\"\r\n";
    let hostile = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\nparentFileNameHint=\"/vmfs/volumes/x.vmdk\"\n\
        createType=\"monolithicFlat\"\nRW 18446744073709551615 FLAT \"../../etc/passwd\" 18446744073709551615\n\
        RW 1 FLAT \"a\" 0\nRW 1 FLAT \"a\" 0\n";
    let mut embedded = esxi.replace("vmfs", "monolithicSparse").replace("VMFS", "SPARSE").into_bytes();
    embedded.resize(20 * 512, 0);
    vec![
        ("vmdk_descriptor", "esxi", esxi.into()),
        ("vmdk_descriptor", "split", split.into()),
        ("vmdk_descriptor", "hostile", hostile.into()),
        ("vmdk_descriptor", "embedded", embedded),
    ]
}

/// A disk of one hosted file, of 300 KiB, with a few bytes at each offset.
fn hosted(vmdk_type: VmdkType, offsets: &[u64]) -> Vec<u8> {
    let device = Arc::new(MemoryDevice::new(0).named("seed.vmdk"));
    let options = CreateOptions { vmdk_type, ..CreateOptions::new(300 << 10) };
    let image = vmdk::create_on(device.clone(), &options).expect("memory takes every write");
    offsets.iter().for_each(|&offset| image.write_at(offset, &[7; 600]).expect("memory takes every write"));
    image.close().expect("memory takes every write");
    device.to_bytes()
}

fn stream(offsets: &[u64]) -> Vec<u8> {
    sketch_of(&hosted(VmdkType::StreamOptimized, offsets))
}

fn sparse() -> Vec<Seed> {
    let good = hosted(VmdkType::MonolithicSparse, &[0, 65_000, 299 << 10]);
    let header = SparseHeader::parse(good.first_chunk().expect("a header"), 0).expect("a sound header");
    let table_at = (header.directory_sector + 1) as usize * 512;
    let twin_at = (header.redundant_directory_sector + 1) as usize * 512;
    let with_entry = |entry: usize, sector: u32| {
        let mut bytes = good.clone();
        for table in [table_at, twin_at] {
            bytes[table + entry * 4..][..4].copy_from_slice(&sector.to_le_bytes());
        }
        sketch_of(&bytes)
    };
    let first = u32::from_le_bytes(*good[table_at..].first_chunk().expect("an entry"));
    let mut unclean = good.clone();
    unclean[72] = 1;
    vec![
        ("vmdk_sparse", "sound", sketch_of(&good)),
        ("vmdk_sparse", "unclean", sketch_of(&unclean)),
        ("vmdk_sparse", "grain-twice", with_entry(2, first)),
        ("vmdk_sparse", "grain-on-header", with_entry(2, 1)),
        ("vmdk_sparse", "grain-past-end", with_entry(2, u32::MAX)),
    ]
}

fn vhds() -> Vec<Seed> {
    let disk: Vec<u8> = (0..8192u32).map(|i| (i % 253) as u8).collect();
    let footer = VhdFooter::new_fixed(8192, [7; 16], 1).expect("whole sectors");
    let fixed = [&disk, &footer.as_bytes()[..]].concat();
    let mut dynamic_footer = *footer.as_bytes();
    dynamic_footer[16..24].copy_from_slice(&512u64.to_be_bytes());
    dynamic_footer[63] = 3;
    dynamic_footer[64..68].fill(0);
    let sum = !dynamic_footer.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    dynamic_footer[64..68].copy_from_slice(&sum.to_be_bytes());
    let header = DynamicHeader { table_offset_bytes: 1536, table_entries: 2, block_bytes: 4096 };
    let mut table = [0xff; 512];
    table[..4].copy_from_slice(&4u32.to_be_bytes());
    let mut bitmap = [0; 512];
    bitmap[0] = 0b1011_1111;
    let dynamic =
        [&dynamic_footer[..], &header.encode(), &table, &bitmap, &disk[..4096], &dynamic_footer].concat();
    vec![("vhd", "fixed", sketch_of(&fixed)), ("vhd", "dynamic", sketch_of(&dynamic))]
}

/// The header's used part and a sketch of what is behind its page.
fn manifests() -> Vec<Seed> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("manifest");
    let layout = Layout::new(1100 * (64 << 10) + 5, BlockSize::DEFAULT).expect("a small disk");
    let mut manifest = Manifest::create(&path, layout).expect("a small file");
    for block in [0, 7, 1023, 1024, 1100] {
        manifest.set(BlockIndex(block), Digest([block as u8 | 1; 32])).expect("a small file");
    }
    let unsealed = std::fs::read(&path).expect("it was written");
    manifest.seal(3).expect("a small file");
    let sealed = std::fs::read(&path).expect("it was written");
    let tiny = Layout::new(40_000, BlockSize::DEFAULT).expect("a small disk");
    let tiny_path = folder.path().join("tiny");
    Manifest::create(&tiny_path, tiny).and_then(|mut manifest| manifest.seal(1)).expect("a small file");
    let tiny = std::fs::read(&tiny_path).expect("it was written");
    let packed = |file: &[u8]| {
        let mut behind = file[4096..].to_vec();
        behind.resize(behind.len().next_multiple_of(512), 0);
        [&file[..112], &sketch_of(&behind)].concat()
    };
    vec![
        ("manifest", "unsealed", packed(&unsealed)),
        ("manifest", "sealed", packed(&sealed)),
        ("manifest", "tiny", packed(&tiny)),
    ]
}
