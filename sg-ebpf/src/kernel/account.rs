//! What flows carry, see [`sg_common::account`].

use core::arch::asm;

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_jiffies64};
use sg_common::{
    account::Account,
    flow::{Direction, FlowKey},
    generation::Generation,
    reason::Reason,
};
use sg_ebpf::verdict::Decision;

use super::{lookup::with, maps::SG_ACCOUNTS, tell};

#[inline(always)]
fn add(word: *mut u64, value: u64) {
    // SAFETY: an aligned word of a map value; other CPUs add to it, too. The target has no atomic of core.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value, options(nostack))
    };
}

/// Whether a packet is one of a flow that an account may be kept of.
#[inline(always)]
fn is_of_a_flow(reason: u8) -> bool {
    const KINDS: u64 = 1 << Reason::Rule as u64
        | 1 << Reason::Default as u64
        | 1 << Reason::IntraGroup as u64
        | 1 << Reason::Failsafe as u64
        | 1 << Reason::Provider as u64
        | 1 << Reason::Established as u64;
    KINDS >> (reason & 63) & 1 != 0
}

/// Adds an accepted packet to the account of its flow.
#[inline(always)]
pub fn account(generation: &Generation, direction: Direction, length: u32, decision: &Decision, key: &FlowKey) {
    if is_of_a_flow(decision.reason) {
        sg_account(key, generation.slot, direction as u32, length, decision.pack());
    }
}

/// A global function: verified once, by its arguments alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_account(key: *const FlowKey, slot: u32, direction: u32, length: u32, decision: u64) -> u32 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    let decision = Decision::unpack(decision);
    let established = decision.reason == Reason::Established as u8;
    with(key, |key| {
        if let Some(account) = SG_ACCOUNTS.get_ptr_mut(key) {
            // SAFETY: a live map value, whose words are written whole.
            unsafe {
                (&raw mut (*account).last).write_volatile(now);
                if !established {
                    let connections = (&raw const (*account).connections).read_volatile();
                    (&raw mut (*account).connections).write_volatile(connections.wrapping_add(1));
                }
                if direction & 1 == 0 {
                    add(&raw mut (*account).packets[0], 1);
                    add(&raw mut (*account).bytes[0], u64::from(length));
                } else {
                    add(&raw mut (*account).packets[1], 1);
                    add(&raw mut (*account).bytes[1], u64::from(length));
                }
            }
            return 1;
        }
        let inbound = direction & 1 == 0;
        let (packets, bytes) = (1, u64::from(length));
        let account = Account {
            packets: if inbound { [packets, 0] } else { [0, packets] },
            bytes: if inbound { [bytes, 0] } else { [0, bytes] },
            start: now,
            last: now,
            rule: decision.rule,
            slot,
            connections: 1,
            origin: direction as u8 & 1,
            reason: decision.reason,
            pad: 0,
        };
        // Where there is no room, the flow goes on without, and that is counted.
        let put = with(&account, |account| SG_ACCOUNTS.insert(key, account, u64::from(BPF_NOEXIST))).is_ok();
        if !put {
            tell::unaccounted();
        }
        put as u32
    })
}
