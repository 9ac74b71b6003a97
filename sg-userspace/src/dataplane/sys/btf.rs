//! Type information for the maps that are made here: as little as the kernel
//! asks for.
//!
//! Kernels from 5.15 to 6.2 compare where a map's values have a timer when the
//! map is put into a map of maps, and "nowhere" differs from "not known". The
//! maps of the object have types, so those put into them must have types, too.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use super::bpf;

const BPF_BTF_LOAD: u32 = 18;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER: u32 = 24;
const KIND_INT: u32 = 1 << 24;
const KIND_STRUCT: u32 = 4 << 24;

/// Type of a key that is an index.
pub const INDEX: u32 = 1;
/// Type of any other key.
pub const KEY: u32 = 2;
/// Type of a value.
pub const VALUE: u32 = 3;

#[repr(C)]
#[derive(Default)]
struct Load {
    data: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

/// A 32-bit integer, and structures of both sizes whose members nobody asks for.
fn blob(key_size: u32, value_size: u32) -> Vec<u8> {
    let strings = b"\0u32\0";
    // Name, kind, size; an integer also says how many of its bits count.
    let types = [1, KIND_INT, 4, 32, 0, KIND_STRUCT, key_size, 0, KIND_STRUCT, value_size];
    let length = size_of_val(&types) as u32;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([VERSION, 0]);
    for word in [HEADER, 0, length, length, strings.len() as u32].iter().chain(&types) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(strings);
    bytes
}

/// Loads the types of a map.
///
/// # Errors
/// What the kernel says.
pub fn load(key_size: u32, value_size: u32) -> io::Result<OwnedFd> {
    let bytes = blob(key_size, value_size);
    let mut attr = Load { data: bytes.as_ptr() as u64, size: bytes.len() as u32, ..Load::default() };
    let fd = bpf(BPF_BTF_LOAD, &mut attr)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
