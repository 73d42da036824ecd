//! See the body in `failback_fuzz_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| failback_fuzz_bodies::nbd(data));
