//! Every map of the program, on one screen. Names and shapes are ABI, see
//! `sg_common::maps`.

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sg_common::{
    account::Account,
    addr::Addr,
    event::{Counter, Event},
    filter::Filter,
    flow::{Flow, FlowKey, FlowKey4, FlowKey6, FragEntry, FragKey},
    generation::{Config, Generation, OwnKey},
    limits,
    policy::{AddrClass, CLASS_SIZES, CLASS_SLACK, LpmData},
    quota::{Quotas, Usage},
    reason::REASON_SLOTS,
    shadow::{Compared, Differs},
    watch::{Tell, Told},
};

/// A flat policy value of `N` bytes.
#[repr(C, align(8))]
pub struct Value<const N: usize>(pub [u8; N]);

const fn bytes(class: usize) -> usize {
    (CLASS_SIZES[class] + CLASS_SLACK) as usize
}
const INNER: usize = (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize;
const POLICIES: usize = limits::MAX_POLICIES as usize;
const FLOWS: usize = limits::MAX_FLOWS as usize;
const CHURN: usize = limits::MAX_CHURN as usize;

type FlatMap<const N: usize> = Array<Value<N>, 1, INNER>;

#[btf_map]
pub static SG_IFACES: Array<u64, { limits::MAX_IFINDEX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static SG_GENERATIONS: Array<Generation, { limits::MAX_GENERATIONS as usize }> = Array::new();
#[btf_map]
pub static SG_CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static SG_POLICY_S: ArrayOfMaps<FlatMap<{ bytes(0) }>, POLICIES> = ArrayOfMaps::new();
#[btf_map]
pub static SG_POLICY_M: ArrayOfMaps<FlatMap<{ bytes(1) }>, POLICIES> = ArrayOfMaps::new();
#[btf_map]
pub static SG_POLICY_L: ArrayOfMaps<FlatMap<{ bytes(2) }>, POLICIES> = ArrayOfMaps::new();
#[btf_map]
pub static SG_PREFIXES: ArrayOfMaps<LpmTrie<LpmData, AddrClass, 1>, POLICIES> = ArrayOfMaps::new();
#[btf_map]
pub static SG_HOSTS: ArrayOfMaps<HashMap<Addr, AddrClass, 1>, POLICIES> = ArrayOfMaps::new();
#[btf_map]
pub static SG_OWN: HashMap<OwnKey, u32, 65536, 1> = HashMap::new();
/// Scratch by hook: a program of one hook does not interrupt another of the same.
#[btf_map]
pub static SG_SCRATCH: PerCpuArray<sg_ebpf::Scratch, 3> = PerCpuArray::new();
#[btf_map]
pub static SG_FLOWS4: HashMap<FlowKey4, Flow, FLOWS> = HashMap::new();
#[btf_map]
pub static SG_FLOWS6: HashMap<FlowKey6, Flow, FLOWS> = HashMap::new();
#[btf_map]
pub static SG_CHURN_IN4: LruHashMap<FlowKey4, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_CHURN_IN6: LruHashMap<FlowKey6, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_CHURN_OUT4: LruHashMap<FlowKey4, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_CHURN_OUT6: LruHashMap<FlowKey6, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_PROBATION4: LruHashMap<FlowKey4, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_PROBATION6: LruHashMap<FlowKey6, Flow, CHURN> = LruHashMap::new();
#[btf_map]
pub static SG_FILTER: Array<Filter, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static SG_QUOTAS: Array<Quotas, 1> = Array::new();
#[btf_map]
pub static SG_USAGE: Array<Usage, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static SG_FRAGMENTS: LruHashMap<FragKey, FragEntry, { limits::MAX_FRAGMENTS as usize }> = LruHashMap::new();
#[btf_map]
pub static SG_REASONS: PerCpuArray<Counter, { (limits::MAX_SLOTS * 2 * REASON_SLOTS * 2) as usize }> =
    PerCpuArray::new();
#[btf_map]
pub static SG_RULES: PerCpuArray<Counter, { limits::MAX_RULES as usize }> = PerCpuArray::new();
#[btf_map]
pub static SG_EVENTS: RingBuf<Event, { 1 << 18 }> = RingBuf::new();
#[btf_map]
pub static SG_TELL: Array<Tell, 1> = Array::new();
#[btf_map]
pub static SG_TOLD: PerCpuArray<Told, 1> = PerCpuArray::new();
/// Memory is taken as it is used.
#[btf_map]
pub static SG_ACCOUNTS: HashMap<FlowKey, Account, { limits::MAX_ACCOUNTS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
/// Memory is taken as it is used.
#[btf_map]
pub static SG_SHADOW: HashMap<FlowKey, Differs, { limits::MAX_DIFFERS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
#[btf_map]
pub static SG_SHADOWED: PerCpuArray<Compared, 1> = PerCpuArray::new();

/// A flow that differs, before it is in the table.
#[repr(C)]
pub struct Room {
    pub key: FlowKey,
    pub differs: Differs,
}
#[btf_map]
pub static SG_DIFFERS: PerCpuArray<Room, 1> = PerCpuArray::new();
