//! One program for all targets: SG_FUZZ_TARGET names the one that runs.
#![no_main]

use std::sync::OnceLock;

use sg_userspace::fuzzing::{TARGETS, Target};

fn target() -> Target {
    let name = std::env::var("SG_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.unwrap_or_else(|| panic!("SG_FUZZ_TARGET is {name:?}, not one of {names:?}")).1
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(target)(data);
});
