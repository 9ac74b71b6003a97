//! Entry points: build the context, call the pipeline, leave through one exit.

mod ctx;
mod filter;
mod finish;
mod lookup;
mod maps;
mod stages;

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, TC_ACT_SHOT, xdp_action, xdp_md},
    helpers::bpf_jiffies64,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sg_common::{
    flow::Direction,
    generation::{Config, Generation, events, flags},
    reason::{Reason, Verdict},
};
use sg_ebpf::{Stages, conntrack::Clock, packet::Packet, pipeline, verdict::Decision};

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` on clsact: other programs still run.
const NEXT: i32 = -1;

/// Inbound of the host side (outbound of a guest) at XDP.
#[xdp(frags)]
pub fn sg_xdp(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    match run::<AtXdp>(ctx.ctx, ifindex, true, 0) {
        Verdict::Accept => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// Packets the device receives.
#[classifier]
pub fn sg_tc_in(ctx: TcContext) -> i32 {
    tc(&ctx, true)
}

/// Packets the device sends.
#[classifier]
pub fn sg_tc_out(ctx: TcContext) -> i32 {
    tc(&ctx, false)
}

/// The clock, for calibration: low 32 bits of jiffies.
#[classifier]
pub fn sg_clock(_ctx: TcContext) -> i32 {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_jiffies64() }) as i32
}

#[inline(always)]
fn tc(ctx: &TcContext, ingress: bool) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands a valid context to the program.
    let ifindex = unsafe { (*skb).ifindex };
    match run::<AtTc>(skb, ifindex, ingress, 1 + ingress as u32) {
        Verdict::Accept => NEXT,
        Verdict::Drop => TC_ACT_SHOT as i32,
    }
}

/// What the hooks have in common.
trait Hook {
    /// What the kernel hands to a program.
    type Raw: Copy;
    type Context: EbpfContext;
    type View: Packet;
    type Stages: Stages;
    fn context(raw: Self::Raw) -> Self::Context;
    fn view(raw: Self::Raw) -> Self::View;
    fn stages(raw: Self::Raw, config: &Config) -> Self::Stages;
}

/// A hook's types, which differ in their names only.
macro_rules! hook {
    ($name:ident, $raw:ty, $context:ty, $view:ty, $stages:ty) => {
        struct $name;

        impl Hook for $name {
            type Raw = *mut $raw;
            type Context = $context;
            type View = $view;
            type Stages = $stages;
            #[inline(always)]
            fn context(raw: *mut $raw) -> $context {
                <$context>::new(raw)
            }
            #[inline(always)]
            fn view(raw: *mut $raw) -> $view {
                <$view>::new(raw)
            }
            #[inline(always)]
            fn stages(raw: *mut $raw, config: &Config) -> $stages {
                <$stages>::new(raw, config)
            }
        }
    };
}
hook!(AtXdp, xdp_md, XdpContext, ctx::Xdp, stages::Xdp);
hook!(AtTc, __sk_buff, TcContext, ctx::Skb, stages::Skb);

/// Finds the interface's generation, normalises the direction, and goes the short
/// way; what cannot take it goes on in [`long`], on a stack frame of its own.
#[inline(always)]
fn run<H: Hook>(raw: H::Raw, ifindex: u32, ingress: bool, hook: u32) -> Verdict {
    let Some(generation) = lookup::generation(ifindex) else {
        return Verdict::Accept;
    };
    let Some(generation) = generation else {
        // Bound, but the record cannot be read: fail closed.
        return Verdict::Drop;
    };
    let guest = generation.flags & flags::GUEST != 0;
    let direction = if ingress != guest { Direction::Inbound } else { Direction::Outbound };
    let config = lookup::config();
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    let clock = Clock { now: now.wrapping_add(config.time_offset), hz: config.hz };
    let short = H::stages(raw, config).fast(generation, clock, direction);
    if let Some(decision) = &short
        && (config.events == events::OFF || (config.events == events::DECISIONS && decision.is_accept()))
    {
        return finish::quiet(generation, direction, H::view(raw).linear_len(), decision);
    }
    let short = short.map_or(0, |decision| DECIDED | decision.pack());
    Verdict::from_u8(long::<H>(raw, generation, clock.now, hook << 1 | direction as u32, short) as u8)
}

/// Set in what the short way hands to the long one if it has decided.
const DECIDED: u64 = 1 << 63;

/// The whole pipeline. `place` is twice the hook's number plus the direction's.
#[inline(never)]
fn long<H: Hook>(raw: H::Raw, generation: &Generation, now: u32, place: u32, short: u64) -> u32 {
    let (hook, direction) = (place >> 1, Direction::from_u8((place & 1) as u8));
    let Some(scratch) = maps::SG_SCRATCH.get_ptr_mut(hook) else {
        return Verdict::Drop as u32;
    };
    // SAFETY: this CPU's own copy, which no other program of this hook uses
    // while this one runs: both run with bottom halves off.
    let scratch = unsafe { &mut *scratch };
    let config = lookup::config();
    scratch.begin(Clock { now, hz: config.hz }, direction);
    let mut decision = pipeline(&H::stages(raw, config), generation, scratch);
    // An event tells more than the short way knows; where both were walked, they must agree.
    if short & DECIDED != 0 && Decision::unpack(short) != decision {
        decision = Decision::new(Verdict::Drop, Reason::Disagreement, 0);
    }
    trace(&H::context(raw), direction, &decision);
    finish::finish(generation, config, direction, H::view(raw).len(), &decision, &scratch.keys.full) as u32
}

/// A line for each packet, where the feature `log` asks for it.
#[inline(always)]
#[cfg_attr(not(feature = "log"), expect(unused_variables, reason = "free when off"))]
fn trace<C: EbpfContext>(context: &C, direction: Direction, decision: &Decision) {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        context,
        "direction {} verdict {} reason {} rule {}",
        direction as u32,
        decision.verdict as u32,
        u32::from(decision.reason),
        decision.rule
    );
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
