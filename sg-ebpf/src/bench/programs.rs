//! See the crate's `bench.rs`. All of them take Ethernet frames without tags
//! and IP headers without options, as the benchmark makes them.

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, HashMap, PerCpuArray, ProgramArray},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sg_common::bench::{BenchKey4, BenchKey6, Vary};

/// `TCX_NEXT`.
const NEXT: i32 = -1;

/// The one hash lookup of the minimal program, of IPv4.
#[btf_map]
static BENCH_FLOWS4: HashMap<BenchKey4, u32, 65536> = HashMap::new();
/// The same of IPv6.
#[btf_map]
static BENCH_FLOWS6: HashMap<BenchKey6, u32, 65536> = HashMap::new();
/// How the source varies its packets.
#[btf_map]
static BENCH_VARY: Array<Vary, 1> = Array::new();
/// Packets the source has made, by CPU.
#[btf_map]
static BENCH_COUNT: PerCpuArray<u32, 1> = PerCpuArray::new();
/// What the source hands its packets to, at XDP.
#[btf_map]
static BENCH_NEXT_XDP: ProgramArray<1> = ProgramArray::new();
/// The same at TC: an array takes programs of one type.
#[btf_map]
static BENCH_NEXT_TC: ProgramArray<1> = ProgramArray::new();

/// Nothing: drops.
#[xdp(frags)]
pub fn bench_xdp_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Nothing: passes.
#[xdp(frags)]
pub fn bench_xdp_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Nothing: passes on.
#[classifier]
pub fn bench_tc_next(_ctx: TcContext) -> i32 {
    NEXT
}

/// The least: parse, one hash lookup, a verdict.
#[xdp(frags)]
pub fn bench_xdp_least(ctx: XdpContext) -> u32 {
    match least(ctx.data(), ctx.data_end()) {
        true => xdp_action::XDP_PASS,
        false => xdp_action::XDP_DROP,
    }
}

/// The least at TC.
#[classifier]
pub fn bench_tc_least(ctx: TcContext) -> i32 {
    match least(ctx.data(), ctx.data_end()) {
        true => NEXT,
        false => 2,
    }
}

/// A packet with another sender each time, for the next program, or the stack.
#[xdp(frags)]
pub fn bench_xdp_vary(ctx: XdpContext) -> u32 {
    vary(ctx.data(), ctx.data_end());
    // SAFETY: nothing of this program is alive across the call.
    unsafe { BENCH_NEXT_XDP.tail_call(&ctx, 0) };
    xdp_action::XDP_PASS
}

/// The same at TC.
#[classifier]
pub fn bench_tc_vary(ctx: TcContext) -> i32 {
    vary(ctx.data(), ctx.data_end());
    // SAFETY: as above.
    unsafe { BENCH_NEXT_TC.tail_call(&ctx, 0) };
    NEXT
}

/// A pointer to a `T` of the packet, if it is all there.
#[inline(always)]
fn at<T>(start: usize, end: usize, offset: usize) -> Option<*mut T> {
    if start + offset + size_of::<T>() > end {
        return None;
    }
    Some((start + offset) as *mut T)
}

#[inline(always)]
fn least(start: usize, end: usize) -> bool {
    let Some(ethertype) = at::<u16>(start, end, 12) else { return false };
    // SAFETY: checked by `at`; packets may be read unaligned.
    let v4 = match u16::from_be(unsafe { *ethertype }) {
        0x0800 => true,
        0x86dd => false,
        _ => return true,
    };
    // SAFETY: as above.
    unsafe {
        if v4 {
            let Some(header) = at::<[u32; 6]>(start, end, 14) else { return false };
            let [_, _, word, remote, local, ports] = *header;
            BENCH_FLOWS4.get(BenchKey4 { local, remote, ports, protocol: (word >> 8) & 0xff }).is_some()
        } else {
            let Some(header) = at::<[u32; 11]>(start, end, 14) else { return false };
            let [_, word, r0, r1, r2, r3, l0, l1, l2, l3, ports] = *header;
            let (local, remote) = ([l0, l1, l2, l3], [r0, r1, r2, r3]);
            BENCH_FLOWS6.get(BenchKey6 { local, remote, ports, protocol: (word >> 16) & 0xff }).is_some()
        }
    }
}

/// Writes the low sixteen bits of the sender's address.
#[inline(always)]
fn vary(start: usize, end: usize) {
    let Some(config) = BENCH_VARY.get(0) else { return };
    let Some(count) = BENCH_COUNT.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own counter.
    let n = unsafe {
        *count = (*count).wrapping_add(1);
        *count & config.mask
    } as u16;
    if config.v4 != 0 {
        // SAFETY: checked by `at`.
        unsafe {
            let Some(low) = at::<u16>(start, end, 28) else { return };
            *low = n.to_be();
            let Some(sum) = at::<u16>(start, end, 24) else { return };
            let mut total = config.sum + u32::from(n);
            total = (total & 0xffff) + (total >> 16);
            total = (total & 0xffff) + (total >> 16);
            *sum = (!(total as u16)).to_be();
        }
    } else if let Some(low) = at::<u16>(start, end, 36) {
        // SAFETY: checked by `at`.
        unsafe { *low = n.to_be() };
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects a reachable endless loop, so a program that loads cannot panic.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
