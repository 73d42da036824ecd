//! Numbers at fixed places of a fixed-size structure.
//!
//! **Invariant**: offsets are constants of a codec that has checked the structure's length; a field past the end is
//! our own bug and panics.

/// `N` bytes at `offset`.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    *bytes[offset..].first_chunk().expect("a field lies within its structure")
}

/// Little-endian 32-bit number at `offset`.
pub(crate) fn u32_le(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(bytes, offset))
}

/// Little-endian 64-bit number at `offset`.
pub(crate) fn u64_le(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}

/// Big-endian 32-bit number at `offset`.
pub(crate) fn u32_be(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(array(bytes, offset))
}

/// Big-endian 64-bit number at `offset`.
pub(crate) fn u64_be(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(array(bytes, offset))
}

/// Copies `value` to `offset`.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}
