//! See `sg_userspace::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sg_userspace::fuzzing::related::run(data));
