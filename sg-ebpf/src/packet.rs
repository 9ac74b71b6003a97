//! What a stage may ask of a packet.

/// A value of which every bit pattern is valid and that has no padding.
///
/// # Safety
/// Implementors are arrays of integers, or integers.
pub unsafe trait Plain: Copy {
    /// All zero bits.
    const ZERO: Self;
}

macro_rules! plain {
    ($($t:ty),+) => {$(
        // SAFETY: an integer, or an array of them.
        unsafe impl Plain for $t { const ZERO: Self = 0; }
        // SAFETY: an integer, or an array of them.
        unsafe impl<const N: usize> Plain for [$t; N] { const ZERO: Self = [0; N]; }
    )+};
}
plain!(u8, u16, u32, u64);

/// Bytes in, nothing else.
pub trait Packet {
    /// Bytes of the whole packet from the point where the hook sees it,
    /// non-linear parts included.
    fn len(&self) -> u32;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes at `offset`, as they lie in the packet (network order).
    fn load<T: Plain>(&self, offset: u32) -> Option<T>;
    /// The same, only where it costs nothing: `None` where bytes would have to be copied.
    #[inline(always)]
    fn linear<T: Plain>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }
    /// Bytes that [`Packet::linear`] may see, or more, but never more than [`Packet::len`].
    #[inline(always)]
    fn linear_len(&self) -> u32 {
        self.len()
    }
    /// The VLAN tag the kernel took out of the data into metadata: its TCI.
    fn metadata_vlan(&self) -> Option<u16>;
    /// Whether it stands for several packets (segmentation offload), so that
    /// its length need not fit the IP header.
    fn is_super_packet(&self) -> bool;
}

/// A packet in memory, for the host pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// All bytes.
    pub data: &'a [u8],
    /// See [`Packet::metadata_vlan`].
    pub vlan: Option<u16>,
    /// See [`Packet::is_super_packet`].
    pub super_packet: bool,
}

impl<'a> Bytes<'a> {
    /// A plain packet.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, vlan: None, super_packet: false }
    }
}

impl Packet for Bytes<'_> {
    fn len(&self) -> u32 {
        self.data.len() as u32
    }
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        let start = offset as usize;
        let bytes = self.data.get(start..start.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has the size of `T`, whose every bit pattern is valid.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
    fn metadata_vlan(&self) -> Option<u16> {
        self.vlan
    }
    fn is_super_packet(&self) -> bool {
        self.super_packet
    }
}
