//! Entry points: build the context, call the pipeline, leave through one exit.

mod account;
mod ctx;
mod entries;
mod filter;
mod finish;
mod lookup;
mod maps;
mod quota;
mod shadow;
mod stages;
mod tell;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::bpf_jiffies64,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sg_common::{
    flow::Direction,
    generation::{CONFIRMED, Config, events, flags},
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
    let config = lookup::config();
    match run(&ctx, &ctx::Xdp::new(ctx.ctx), &stages::Xdp::new(ctx.ctx, config), config, ifindex, true, 0) {
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
    let (config, hook) = (lookup::config(), 1 + ingress as u32);
    match run(ctx, &ctx::Skb::new(skb), &stages::Skb::new(skb, config), config, ifindex, ingress, hook) {
        Verdict::Accept => NEXT,
        Verdict::Drop => TC_ACT_SHOT as i32,
    }
}

/// Finds the interface's generation, normalises the direction, judges.
#[inline(always)]
fn run<C: EbpfContext, P: Packet, S: Stages>(
    context: &C,
    packet: &P,
    stages: &S,
    config: &Config,
    ifindex: u32,
    ingress: bool,
    hook: u32,
) -> Verdict {
    let Some(generation) = lookup::generation(ifindex) else {
        return Verdict::Accept;
    };
    let Some(generation) = generation else {
        // Bound, but the record cannot be read: fail closed.
        return Verdict::Drop;
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    let clock = Clock { now: now.wrapping_add(config.time_offset), hz: config.hz };
    let generation = if generation.deadline == CONFIRMED {
        generation
    } else {
        // SAFETY: null, or a map value, which lives as long as the program runs.
        let Some(counts) = (unsafe { lookup::on_trial(ifindex, clock.now).as_ref() }) else {
            return Verdict::Drop;
        };
        if counts.flags & flags::PASS != 0 {
            return Verdict::Accept;
        }
        counts
    };
    let guest = generation.flags & flags::GUEST != 0;
    let direction = if ingress != guest { Direction::Inbound } else { Direction::Outbound };
    if generation.flags & flags::OBSERVE != 0 && generation.observe_until != 0 && !generation.observes_at(clock.now) {
        lookup::end_observation(ifindex);
    }
    let short = if lookup::is_dry() { None } else { stages.fast(generation, clock, direction) };
    if let Some(decision) = &short
        && config.events != events::ALL
    {
        return finish::quiet(generation, direction, packet.linear_len(), decision);
    }
    let Some(scratch) = maps::SG_SCRATCH.get_ptr_mut(hook) else {
        return Verdict::Drop;
    };
    // SAFETY: this CPU's own copy, which no other program of this hook uses
    // while this one runs: both run with bottom halves off.
    let scratch = unsafe { &mut *scratch };
    scratch.begin(clock, direction);
    let mut decision = pipeline(stages, generation, scratch);
    // An event tells more than the short way knows; where both were walked, they must agree.
    if let Some(short) = short
        && short != decision
    {
        decision = Decision::new(Verdict::Drop, Reason::Disagreement, 0);
    }
    trace(context, ifindex, direction, &decision);
    if lookup::is_dry() {
        tell::answer(generation, &decision);
        return decision.verdict;
    }
    finish::finish(generation, config, scratch, packet.len(), &decision)
}

/// A line for each packet, where the feature `log` asks for it.
#[inline(always)]
#[cfg_attr(not(feature = "log"), expect(unused_variables, reason = "free when off"))]
fn trace<C: EbpfContext>(context: &C, ifindex: u32, direction: Direction, decision: &Decision) {
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        context,
        "device {} direction {} verdict {} reason {} rule {}",
        ifindex,
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
