//! The kernel maps as the pipeline sees them.

use aya_ebpf::{bindings::BPF_ANY, btf_maps::lpm_trie::Key};
use sg_common::{
    addr::Addr,
    flow::{Flow, FlowKey, FlowKey4, FlowKeys, FragEntry, FragKey},
    generation::{Config, Generation, OVER, OwnKey, events},
    policy::{AddrClass, CLASS_SIZES, LPM_KIND_BITS, LpmData, RuleRow},
};
use sg_ebpf::{
    classify::{Query, classify},
    tables::{Addresses, Flat, FlowTable, Tables, Without},
    verdict::Decision,
};

use super::{entries, filter, maps::*, shadow, tell};

const NO_CONFIG: &Config = &Config { abi: 0, hz: 250, time_offset: 0, events: 0, filter: 0 };

/// Not 0 where a key has to lie on the stack: kernels before 6.2 take none from
/// what a global function was given a pointer to. The daemon writes it before
/// the verifier sees the program, which then holds only the branch that is taken.
/// Its value here is that of no other constant, or the two would become one.
#[unsafe(no_mangle)]
static SG_STACK_KEYS: u32 = 0x53_4b_31_ff;

/// Not 0 in a program that only answers what it would do, see [`sg_common::maps::DRY`]: written
/// and chosen as the one above.
#[unsafe(no_mangle)]
static SG_DRY: u32 = 0x53_47_44_ff;

/// Whether this program changes nothing that others see: no flow, no counter, no record.
#[inline(always)]
pub fn is_dry() -> bool {
    // SAFETY: a static; volatile, because the loader changes it.
    unsafe { (&raw const SG_DRY).read_volatile() != 0 }
}

/// Hands a key, or a value, to a map where the kernel takes it.
#[inline(always)]
pub fn with<K: Clone, R>(key: &K, f: impl FnOnce(&K) -> R) -> R {
    // SAFETY: a static; volatile, because the loader changes it.
    if unsafe { (&raw const SG_STACK_KEYS).read_volatile() } != 0 {
        let copy = key.clone();
        f(&copy)
    } else {
        f(key)
    }
}

/// The generation of a device: `None` when the device is not ours,
/// `Some(None)` when its entry names no record.
#[inline(always)]
pub fn generation(ifindex: u32) -> Option<Option<&'static Generation>> {
    let entry = *SG_IFACES.get(ifindex)?;
    if entry == 0 {
        return None;
    }
    Some(SG_GENERATIONS.get(entry as u32))
}

/// The generation that counts on a device where one is on trial: that one, or the one
/// before it once the time is over; null if there is none. Whoever sees first that it
/// is over writes that down.
#[inline(never)]
pub fn on_trial(ifindex: u32, now: u32) -> *const Generation {
    let entry = SG_IFACES.get(ifindex).filter(|entry| **entry != 0);
    let Some(record) = entry.and_then(|entry| SG_GENERATIONS.get_ptr_mut(*entry as u32)) else {
        return core::ptr::null();
    };
    // SAFETY: a live map value; the daemon does not write a record anew while a packet
    // that began before the last flip is under way.
    let generation = unsafe { &*record };
    if !generation.is_over_at(now) {
        return record;
    }
    if generation.deadline != OVER && !is_dry() {
        // SAFETY: an aligned word of the very record whose time is over. The daemon confirms
        // none so late, and looks at the clock again once it has.
        unsafe { (&raw mut (*record).deadline).write_volatile(OVER) };
    }
    if generation.previous == 0 {
        return core::ptr::null();
    }
    match SG_GENERATIONS.get(generation.previous) {
        Some(previous) => previous,
        None => core::ptr::null(),
    }
}

/// Ends a device's observation for good. Left alone, its time would lie ahead
/// again once the clock has gone round half way (25 days at 1000 ticks a second).
#[inline(never)]
pub fn end_observation(ifindex: u32) {
    if is_dry() {
        return;
    }
    let Some(record) = SG_IFACES.get(ifindex).and_then(|entry| SG_GENERATIONS.get_ptr_mut(*entry as u32)) else {
        return;
    };
    // SAFETY: an aligned word of a live map value. Whoever reads it meanwhile sees
    // the time that is over, or 0, which is over, too; and in a record that the daemon
    // has just written anew, 0 ends an observation early.
    unsafe { (&raw mut (*record).observe_until).write_volatile(0) };
}

/// Settings all slots share.
#[inline(always)]
pub fn config() -> &'static Config {
    SG_CONFIG.get(0).unwrap_or(NO_CONFIG)
}

/// A policy value of a size class, whose bound is a constant.
struct Value<const MASK: u32>(*const u8);

impl<const MASK: u32> Flat for Value<MASK> {
    #[inline(always)]
    fn u16(&self, offset: u32) -> u16 {
        // SAFETY: the mask keeps the offset inside the value, and the slack
        // behind it the last word; the compiler of policies aligns tables.
        unsafe { self.0.add((offset & MASK & !1) as usize).cast::<u16>().read_volatile() }
    }
    #[inline(always)]
    fn u32(&self, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.0.add((offset & MASK & !3) as usize).cast::<u32>().read_volatile() }
    }
    #[inline(always)]
    fn u64(&self, offset: u32) -> u64 {
        // SAFETY: as above.
        unsafe { self.0.add((offset & MASK & !7) as usize).cast::<u64>().read_volatile() }
    }
}

/// The address tables of one policy.
struct PolicyAddresses(u32);

impl Addresses for PolicyAddresses {
    #[inline(always)]
    fn host(&self, addr: &Addr) -> Option<AddrClass> {
        let map = SG_HOSTS.get(self.0)?;
        // SAFETY: the value is four bytes, read whole.
        with(addr, |key| unsafe { map.get(key) }.copied())
    }
    #[inline(always)]
    fn prefix(&self, addr: &Addr, v4: bool, local: bool) -> Option<AddrClass> {
        let kind = (local as u32) * 2 + (!v4) as u32;
        let packed = longest_prefix(self.0, addr, kind);
        Some(AddrClass { class: [packed as u16, (packed >> 16) as u16] })
    }
}

/// A subprogram of its own, so that its key is on its own, short-lived frame.
#[inline(never)]
fn longest_prefix(policy: u32, addr: &Addr, kind: u32) -> u32 {
    let v4 = kind & 1 == 0;
    let Some(map) = SG_PREFIXES.get(policy) else { return 0 };
    let bits = LPM_KIND_BITS + if v4 { 32 } else { 128 };
    let key = Key::new(bits, LpmData::new(addr, v4, kind & 2 != 0));
    match map.get(&key) {
        Some(class) => u32::from(class.class[0]) | (u32::from(class.class[1]) << 16),
        None => 0,
    }
}

/// No policy value under that index; no row looks like this.
pub const MISSING: u64 = u64::MAX;

/// A global function: every place that judges calls the same code, verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sg_decide(policy: u32, class: u32, query: *const Query) -> u64 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let Some(query) = (unsafe { query.as_ref() }) else {
        return MISSING;
    };
    let addresses = PolicyAddresses(policy);
    let row = match class {
        0 => SG_POLICY_S
            .get_value(policy, &0)
            .and_then(|v| classify(&Value::<{ CLASS_SIZES[0] - 1 }>(v.0.as_ptr()), &addresses, query)),
        1 => SG_POLICY_M
            .get_value(policy, &0)
            .and_then(|v| classify(&Value::<{ CLASS_SIZES[1] - 1 }>(v.0.as_ptr()), &addresses, query)),
        2 => SG_POLICY_L
            .get_value(policy, &0)
            .and_then(|v| classify(&Value::<{ CLASS_SIZES[2] - 1 }>(v.0.as_ptr()), &addresses, query)),
        _ => None,
    };
    match row {
        Some(row) => u64::from(row.counter) | (u64::from(row.verdict) << 32) | (u64::from(row.reason) << 40),
        None => MISSING,
    }
}

/// Looks in the confirmed table, then in the unconfirmed ones.
#[inline(never)]
fn find(keys: &FlowKeys, half: u32) -> *const Flow {
    if is_dry() || !filter::may_exist(half, filter::bit(keys)) {
        return core::ptr::null();
    }
    // SAFETY: entries are never freed while a program runs; a reused one is
    // read as words, each written whole.
    let flow = unsafe {
        if keys.is_v4() {
            with(&keys.short, |key| {
                SG_FLOWS4
                    .get(key)
                    .or_else(|| SG_CHURN_IN4.get(key))
                    .or_else(|| SG_CHURN_OUT4.get(key))
                    .or_else(|| SG_PROBATION4.get(key))
            })
        } else {
            with(&keys.full, |key| {
                SG_FLOWS6
                    .get(key)
                    .or_else(|| SG_CHURN_IN6.get(key))
                    .or_else(|| SG_CHURN_OUT6.get(key))
                    .or_else(|| SG_PROBATION6.get(key))
            })
        }
    };
    match flow {
        Some(flow) => flow,
        None => core::ptr::null(),
    }
}

/// All tables.
pub struct KernelMaps {
    /// Half of the filter that is asked.
    half: u32,
    /// See [`Config::events`].
    events: u32,
}

impl KernelMaps {
    /// The tables, for one who knows the configuration.
    #[inline(always)]
    pub fn new(config: &Config) -> Self {
        Self { half: config.filter, events: config.events }
    }
    /// The same for one who does not.
    #[inline(always)]
    pub fn by_config() -> Self {
        Self::new(config())
    }
}

impl Tables for KernelMaps {
    #[inline(always)]
    fn confirmed4(&self, key: &FlowKey4, likely: bool) -> Result<&Flow, Without> {
        if !likely && !filter::may_exist(self.half, filter::bit4(key)) {
            return Err(Without::AnyFlow);
        }
        // SAFETY: entries are never freed while a program runs; a reused one is
        // read as words, each written whole.
        unsafe { SG_FLOWS4.get(key) }.ok_or(Without::Confirmed)
    }
    #[inline(always)]
    fn confirmed6(&self, key: &FlowKey, likely: bool) -> Result<&Flow, Without> {
        if !likely && !filter::may_exist(self.half, filter::bit6(key)) {
            return Err(Without::AnyFlow);
        }
        // SAFETY: as above.
        unsafe { SG_FLOWS6.get(key) }.ok_or(Without::Confirmed)
    }

    #[inline(always)]
    fn decide(&self, generation: &Generation, query: &Query) -> Option<RuleRow> {
        let packed = sg_decide(generation.policy, generation.policy_class, query);
        if packed == MISSING {
            return None;
        }
        Some(RuleRow { counter: packed as u32, verdict: (packed >> 32) as u8, reason: (packed >> 40) as u8, pad: 0 })
    }

    #[inline(always)]
    fn flow(&self, keys: &FlowKeys) -> Option<&Flow> {
        // SAFETY: null, or an entry that lives as long as the program runs.
        unsafe { find(keys, self.half).as_ref() }
    }

    #[inline(always)]
    fn insert(&self, table: FlowTable, keys: &FlowKeys, flow: &Flow) -> bool {
        entries::insert(table, keys, flow)
    }
    #[inline(always)]
    fn confirm(&self, generation: &Generation, keys: &FlowKeys, flow: &Flow) -> bool {
        entries::confirm(generation.slot, keys, flow)
    }
    #[inline(always)]
    fn remove(&self, table: FlowTable, keys: &FlowKeys) {
        entries::remove(table, keys);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragKey) -> Option<FragEntry> {
        // SAFETY: eight bytes, written whole by the map update.
        with(key, |key| unsafe { SG_FRAGMENTS.get(key) }.copied())
    }

    #[inline(always)]
    fn remember(&self, key: &FragKey, entry: &FragEntry) {
        if is_dry() {
            return;
        }
        // A full LRU table evicts; there is nothing to do about a failure but
        // that later fragments are dropped as unseen.
        let _ = with(key, |key| SG_FRAGMENTS.insert(key, entry, u64::from(BPF_ANY)));
    }

    #[inline(always)]
    fn owns(&self, key: &OwnKey) -> bool {
        SG_OWN.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn shadow(&self, generation: &Generation, query: &Query, decision: &Decision) {
        if !is_dry() {
            shadow::compare(generation, query, decision);
        }
    }

    #[inline(always)]
    fn tells(&self, generation: &Generation, query: &Query, decision: &Decision) -> bool {
        // Who hears of every packet has both ways walked anyway, and compared.
        self.events == events::DECISIONS && tell::room(query, generation.slot, decision, false) != 0
    }
}
