//! Packets as the hooks hand them over: direct access first, the kernel's
//! copying helper where the bytes are not linear.

use core::arch::asm;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{
        bpf_skb_load_bytes,
        generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
};
use sg_ebpf::packet::{Packet, Plain};

/// Headers lie within this many bytes; the verifier needs a bound.
const MAX_OFFSET: u32 = 0x3fff;

/// An offset that has been compared with [`MAX_OFFSET`], bounded once more where
/// the compiler cannot take it away: it may spill the offset before it compares
/// it, and verifiers before 6.8 do not carry the bound over to the spilled copy.
#[inline(always)]
fn bounded(offset: u32) -> usize {
    let mut at = offset as usize;
    // SAFETY: one register's own bits; no memory, no flags.
    unsafe { asm!("{at} &= {max}", at = inout(reg) at, max = const MAX_OFFSET, options(pure, nomem, nostack)) };
    at
}

/// Reads at `start + offset` if that ends before `end`.
#[inline(always)]
fn direct<T: Plain>(start: usize, end: usize, offset: u32) -> Option<T> {
    let at = start + bounded(offset);
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the verifier has seen the bounds check above; the kernel allows
    // unaligned packet loads on the architectures we build for, and every bit
    // pattern of `T` is valid.
    Some(unsafe { *(at as *const T) })
}

/// Reads at a constant offset, if that ends before `end`.
#[inline(always)]
fn fixed<T: Plain>(start: usize, end: usize, offset: u32) -> Option<T> {
    let at = start + offset as usize;
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as in `direct`.
    Some(unsafe { *(at as *const T) })
}

/// An skb at TC.
pub struct Skb {
    skb: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn linear<T: Plain>(&self, offset: u32) -> Option<T> {
        // SAFETY: a valid context for the whole run.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        fixed(start, end, offset)
    }
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a valid context for the whole run.
        unsafe { (*self.skb).len }
    }
    #[inline(always)]
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: a valid context for the whole run.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        if let Some(value) = direct(start, end, offset) {
            return Some(value);
        }
        let mut value = T::ZERO;
        // SAFETY: `value` is writable for its whole size.
        let status =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, (&raw mut value).cast(), size_of::<T>() as u32) };
        (status == 0).then_some(value)
    }
    #[inline(always)]
    fn metadata_vlan(&self) -> Option<u16> {
        // SAFETY: a valid context for the whole run.
        unsafe { ((*self.skb).vlan_present != 0).then_some((*self.skb).vlan_tci as u16) }
    }
    #[inline(always)]
    fn is_super_packet(&self) -> bool {
        // SAFETY: a valid context for the whole run.
        unsafe { (*self.skb).gso_size != 0 }
    }
}

/// A frame at XDP, of one buffer or several.
pub struct Xdp {
    ctx: *mut xdp_md,
}

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }
}

impl Packet for Xdp {
    #[inline(always)]
    fn linear<T: Plain>(&self, offset: u32) -> Option<T> {
        // SAFETY: a valid context for the whole run.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        fixed(start, end, offset)
    }
    #[inline(always)]
    fn linear_len(&self) -> u32 {
        // SAFETY: as above.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        end.wrapping_sub(start) as u32
    }
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a valid context for the whole run.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }
    #[inline(always)]
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: a valid context for the whole run.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        if let Some(value) = direct(start, end, offset) {
            return Some(value);
        }
        let mut value = T::ZERO;
        // SAFETY: `value` is writable for its whole size.
        let status = unsafe { bpf_xdp_load_bytes(self.ctx, offset, (&raw mut value).cast(), size_of::<T>() as u32) };
        (status == 0).then_some(value)
    }
    #[inline(always)]
    fn metadata_vlan(&self) -> Option<u16> {
        None
    }
    #[inline(always)]
    fn is_super_packet(&self) -> bool {
        false
    }
}
