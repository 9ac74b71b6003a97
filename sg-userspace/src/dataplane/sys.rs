//! bpf(2) where aya has no call for it: inner maps that can be mmapped, maps
//! of maps by file descriptor, batches, plain bytes as keys and values.
//!
//! Everything unsafe about map access in user space is in this file.

mod btf;
pub mod filters;
mod neutral;
pub mod query;
mod walk;

use std::{
    ffi::CString,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

pub use neutral::neutralize;
pub use walk::{Mapping, grace_period};

/// The kernel's own "not supported", which libc does not know.
const ENOTSUPP: i32 = 524;

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_PROG_TEST_RUN: u32 = 10;
/// Frames that go where the program sends them.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_GET_FD_BY_ID: u32 = 14;
const BPF_BTF_GET_FD_BY_ID: u32 = 19;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
const BPF_MAP_UPDATE_BATCH: u32 = 26;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_TYPE_XDP: u32 = 6;
/// Only where there is none yet.
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

/// Map types that are created here.
pub mod map_type {
    /// `BPF_MAP_TYPE_HASH`
    pub const HASH: u32 = 1;
    /// `BPF_MAP_TYPE_ARRAY`
    pub const ARRAY: u32 = 2;
    /// `BPF_MAP_TYPE_LPM_TRIE`
    pub const LPM_TRIE: u32 = 11;
}

/// Map flags that are used here.
pub mod map_flags {
    /// `BPF_F_NO_PREALLOC`
    pub const NO_PREALLOC: u32 = 1;
    /// `BPF_F_MMAPABLE`
    pub const MMAPABLE: u32 = 1 << 10;
    /// `BPF_F_INNER_MAP`
    pub const INNER_MAP: u32 = 1 << 12;
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    btf_fd: u32,
    btf_key_type: u32,
    btf_value_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct Element {
    fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a prefix of union bpf_attr of exactly the size given;
    // the kernel takes the rest as zero. Pointers inside it come from live
    // slices of the lengths the map was made with; callers check them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A type that can be a key or a value as its plain bytes.
///
/// # Safety
/// Implementors are `repr(C)` without padding, and every bit pattern is valid.
pub unsafe trait Raw: Copy {}

macro_rules! raw {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, sizes asserted in sg-common, integers only.
        unsafe impl Raw for $t {}
    )+};
}
raw!(
    sg_common::bench::BenchKey4,
    sg_common::bench::BenchKey6,
    sg_common::bench::Vary,
    u32,
    u64,
    [u32; 8],
    [u32; 6],
    [u32; 14],
    sg_common::account::Account,
    sg_common::addr::Addr,
    sg_common::event::Counter,
    sg_common::flow::FlowKey4,
    sg_common::flow::FlowKey6,
    sg_common::flow::FragEntry,
    sg_common::flow::FragKey,
    sg_common::generation::Config,
    sg_common::generation::Generation,
    sg_common::generation::OwnKey,
    sg_common::policy::AddrClass,
    sg_common::quota::Quotas,
    sg_common::shadow::Compared,
    sg_common::shadow::Differs,
    sg_common::watch::Tell,
    sg_common::watch::Told,
    LpmKey,
);

/// A value of zeroes.
pub fn zeroed<T: Raw>() -> T {
    // SAFETY: every bit pattern is a value.
    unsafe { std::mem::zeroed() }
}

/// A prefix in the trie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LpmKey {
    /// Bits, those of the kind included.
    pub bits: u32,
    /// Kind and address.
    pub data: sg_common::policy::LpmData,
}

/// A map of plain keys and values.
#[derive(Debug)]
pub struct RawMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Raw, V: Raw> RawMap<K, V> {
    /// Takes a map whose key and value sizes are checked against the types.
    ///
    /// # Errors
    /// `InvalidData` naming both sizes when they differ.
    pub fn new(fd: OwnedFd, key_size: u32, value_size: u32) -> io::Result<Self> {
        if key_size as usize != size_of::<K>() || value_size as usize != size_of::<V>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the map has keys of {key_size} and values of {value_size} bytes, expected {} and {}",
                    size_of::<K>(),
                    size_of::<V>()
                ),
            ));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// Creates a map.
    ///
    /// # Errors
    /// What the kernel says; `EPERM` without CAP_BPF.
    pub fn create(name: &str, kind: u32, max_entries: u32, flags: u32) -> io::Result<Self> {
        let fd = create(name, kind, size_of::<K>() as u32, size_of::<V>() as u32, max_entries, flags)?;
        Ok(Self { fd, types: PhantomData })
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The descriptor, borrowed.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn element(&self, key: &K, value: *const V, flags: u64) -> Element {
        Element {
            fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: std::ptr::from_ref(key) as u64,
            value: value as u64,
            flags,
        }
    }

    /// Writes an element.
    ///
    /// # Errors
    /// What the kernel says; `E2BIG` when the map is full.
    pub fn update(&self, key: &K, value: &V) -> io::Result<()> {
        bpf(BPF_MAP_UPDATE_ELEM, &mut self.element(key, value, 0)).map(drop)
    }

    /// Adds an element; false when there is one.
    ///
    /// # Errors
    /// What the kernel says, `EEXIST` aside.
    pub fn add(&self, key: &K, value: &V) -> io::Result<bool> {
        match bpf(BPF_MAP_UPDATE_ELEM, &mut self.element(key, value, BPF_NOEXIST)) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes an element in place of the one that is there; false when there is none.
    ///
    /// # Errors
    /// What the kernel says, `ENOENT` aside.
    pub fn replace(&self, key: &K, value: &V) -> io::Result<bool> {
        match bpf(BPF_MAP_UPDATE_ELEM, &mut self.element(key, value, BPF_EXIST)) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Takes an element of a hash out, in one step.
    ///
    /// # Errors
    /// What the kernel says, `ENOENT` aside.
    pub fn take(&self, key: &K) -> io::Result<Option<V>> {
        self.read(BPF_MAP_LOOKUP_AND_DELETE_ELEM, key)
    }

    /// Elements there is room for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn capacity(&self) -> io::Result<u32> {
        // struct bpf_map_info: type, id, key size, value size, entries.
        Ok(info(self.fd.as_fd())?[4])
    }

    /// Reads an element.
    ///
    /// # Errors
    /// What the kernel says, `ENOENT` aside.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        self.read(BPF_MAP_LOOKUP_ELEM, key)
    }

    fn read(&self, command: u32, key: &K) -> io::Result<Option<V>> {
        let mut value = std::mem::MaybeUninit::<V>::zeroed();
        match bpf(command, &mut self.element(key, value.as_mut_ptr(), 0)) {
            // SAFETY: the kernel wrote a whole value; `V` takes any bits.
            Ok(_) => Ok(Some(unsafe { value.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads an element of a per-CPU map, one value for each possible CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn get_per_cpu(&self, key: &K, cpus: usize) -> io::Result<Vec<V>> {
        assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds per-CPU values up to 8 bytes");
        let mut values = Vec::<V>::with_capacity(cpus);
        bpf(BPF_MAP_LOOKUP_ELEM, &mut self.element(key, values.as_mut_ptr(), 0))?;
        // SAFETY: the kernel wrote one value for each possible CPU.
        unsafe { values.set_len(cpus) };
        Ok(values)
    }

    /// Writes an element of a per-CPU map, one value for each possible CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn update_per_cpu(&self, key: &K, values: &[V]) -> io::Result<()> {
        assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds per-CPU values up to 8 bytes");
        assert!(values.len() >= super::clock::possible_cpus(), "a value for each possible CPU");
        bpf(BPF_MAP_UPDATE_ELEM, &mut self.element(key, values.as_ptr(), 0)).map(drop)
    }

    /// Deletes an element; false when it was not there.
    ///
    /// # Errors
    /// What the kernel says, `ENOENT` aside.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        match bpf(BPF_MAP_DELETE_ELEM, &mut self.element(key, std::ptr::null(), 0)) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The key after `key`, or the first one.
    ///
    /// # Errors
    /// What the kernel says, `ENOENT` (the end) aside.
    pub fn next_key(&self, key: Option<&K>) -> io::Result<Option<K>> {
        let mut next = std::mem::MaybeUninit::<K>::zeroed();
        let mut attr = Element {
            fd: self.fd.as_raw_fd() as u32,
            pad: 0,
            key: key.map_or(0, |k| std::ptr::from_ref(k) as u64),
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        match bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) {
            // SAFETY: the kernel wrote a whole key; `K` takes any bits.
            Ok(_) => Ok(Some(unsafe { next.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All keys, as far as concurrent changes let one see them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys = Vec::new();
        let mut last = None;
        while let Some(key) = self.next_key(last.as_ref())? {
            keys.push(key);
            last = Some(key);
            // A table that changes under the walk can send it back to the start.
            if keys.len() > 1 << 22 {
                break;
            }
        }
        Ok(keys)
    }

    /// Writes many elements in one call; `keys` and `values` are as long.
    ///
    /// # Errors
    /// What the kernel says; some elements may have been written.
    pub fn update_batch(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        assert_eq!(keys.len(), values.len());
        if keys.is_empty() {
            return Ok(());
        }
        let mut attr = Batch {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: keys.len() as u32,
            fd: self.fd.as_raw_fd() as u32,
            ..Batch::default()
        };
        match bpf(BPF_MAP_UPDATE_BATCH, &mut attr) {
            Ok(_) => Ok(()),
            // Kernels before 5.6, and map types without batches.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | ENOTSUPP | libc::EOPNOTSUPP)) => {
                keys.iter().zip(values).try_for_each(|(k, v)| self.update(k, v))
            }
            Err(e) => Err(e),
        }
    }
}

/// Creates a map of any shape.
///
/// # Errors
/// What the kernel says.
pub fn create(
    name: &str,
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let types = btf::load(key_size, value_size)?;
    let mut attr = MapCreate {
        map_type: kind,
        key_size,
        value_size,
        max_entries,
        map_flags: flags,
        btf_fd: types.as_raw_fd() as u32,
        btf_key_type: if kind == map_type::ARRAY { btf::INDEX } else { btf::KEY },
        btf_value_type: btf::VALUE,
        ..MapCreate::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let fd = bpf(BPF_MAP_CREATE, &mut attr)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a zero byte"))
}

/// Pins an object.
///
/// # Errors
/// What the kernel says; `EPERM` when the path is not on bpffs.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Object { path: path.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The interface index that a TCX or XDP link is on; 0 when its device is gone.
///
/// # Errors
/// What the kernel says.
pub fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_link_info: type, id, program, padding, then the index for both kinds.
    Ok(info(link)?[4])
}

/// Whether a link is an XDP one.
///
/// # Errors
/// What the kernel says.
pub fn is_xdp_link(link: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(info(link)?[0] == BPF_LINK_TYPE_XDP)
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Puts another program into a link; no packet passes by both or by neither.
///
/// # Errors
/// What the kernel or the driver says; `ENOLINK` when the device is gone.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (link.as_raw_fd() as u32, program.as_raw_fd() as u32);
    bpf(BPF_LINK_UPDATE, &mut LinkUpdate { link, program, ..LinkUpdate::default() }).map(drop)
}

/// struct bpf_map_info: type, id, bytes of a key and of a value, elements, flags.
///
/// # Errors
/// What the kernel says.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<[u32; 6]> {
    let [a, b, c, d, e, f, ..] = info(map)?;
    Ok([a, b, c, d, e, f])
}

/// The first words of what the kernel tells of an object.
fn info(fd: BorrowedFd<'_>) -> io::Result<[u32; 16]> {
    let mut info = [0u32; 16];
    // SAFETY: all zeroes lead nowhere.
    unsafe { object_info(fd, &mut info) }?;
    Ok(info)
}

/// Asks for an object's information, into as many words of its structure as there are.
///
/// # Errors
/// What the kernel says.
///
/// # Safety
/// What pointers inside `words` lead to is writable, and as long as the counts
/// beside them say.
pub unsafe fn object_info(object: BorrowedFd<'_>, words: &mut [u32]) -> io::Result<()> {
    let mut attr =
        GetInfo { fd: object.as_raw_fd() as u32, length: size_of_val(words) as u32, info: words.as_mut_ptr() as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// Opens type information by its id.
///
/// # Errors
/// What the kernel says; `ENOENT` when there is none.
pub fn btf_by_id(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_BTF_GET_FD_BY_ID, &mut [id, 0, 0])?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Opens a map by its id, as outer maps name their inner ones.
///
/// # Errors
/// What the kernel says; `ENOENT` when there is none.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_MAP_GET_FD_BY_ID, &mut [id, 0, 0])?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Opens a pinned object.
///
/// # Errors
/// What the kernel says; `ENOENT` when nothing is pinned there.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Object { path: path.as_ptr() as u64, ..Object::default() };
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Runs a program once on a packet; returns what it returns. The device is the
/// loopback of this network namespace.
///
/// # Errors
/// What the kernel says; `EINVAL` for a frame without a whole Ethernet header.
pub fn test_run(program: BorrowedFd<'_>, data: &[u8], context: &[u8]) -> io::Result<u32> {
    test_runs(program, data, context, 1, false).map(|(code, _)| code)
}

/// Runs a program on a packet `repeat` times; returns what it said last, and
/// the nanoseconds that one run took. `live` XDP frames go where the program
/// sends them, and their making and freeing is part of the time.
///
/// # Errors
/// What the kernel says.
pub fn test_runs(
    program: BorrowedFd<'_>,
    data: &[u8],
    context: &[u8],
    repeat: u32,
    live: bool,
) -> io::Result<(u32, u32)> {
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: data.len() as u32,
        data_in: data.as_ptr() as u64,
        repeat,
        ctx_size_in: context.len() as u32,
        ctx_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        flags: if live { BPF_F_TEST_XDP_LIVE_FRAMES } else { 0 },
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok((attr.retval, attr.duration))
}
