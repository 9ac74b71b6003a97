//! Flows put into tables and taken out again, on stack frames of their own: the
//! keys that kernels before 6.2 want on the stack do not lie on that of who judges.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use sg_common::flow::{Direction, Flow, FlowKeys};
use sg_ebpf::tables::FlowTable;

use super::{
    filter,
    lookup::{is_dry, with},
    maps::*,
    quota,
};

/// Numbers of the tables, as arguments of global functions.
const MAIN: u32 = 0;
const CHURN_IN: u32 = 1;
const CHURN_OUT: u32 = 2;
const PROBATION: u32 = 3;

#[inline(always)]
fn number(table: FlowTable) -> u32 {
    match table {
        FlowTable::Main => MAIN,
        FlowTable::Churn(Direction::Inbound) => CHURN_IN,
        FlowTable::Churn(Direction::Outbound) => CHURN_OUT,
        FlowTable::Probation => PROBATION,
    }
}

/// Puts an unconfirmed flow into a table; false when that failed.
#[inline(always)]
pub fn insert(table: FlowTable, keys: &FlowKeys, flow: &Flow) -> bool {
    is_dry() || sg_insert(number(table), keys, flow) != 0
}

/// A global function: verified once, by its arguments alone.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_insert(table: u32, keys: *const FlowKeys, flow: *const Flow) -> u32 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let (Some(keys), Some(flow)) = (unsafe { (keys.as_ref(), flow.as_ref()) }) else { return 0 };
    let any = u64::from(BPF_ANY);
    // First the filter: a flow that it does not know is never looked for.
    if !filter::add(filter::bit(keys)) {
        return 0;
    }
    let status = with(flow, |flow| {
        if keys.is_v4() {
            with(&keys.short, |key| match table {
                CHURN_IN => SG_CHURN_IN4.insert(key, flow, any),
                CHURN_OUT => SG_CHURN_OUT4.insert(key, flow, any),
                PROBATION => SG_PROBATION4.insert(key, flow, any),
                _ => Err(0),
            })
        } else {
            with(&keys.full, |key| match table {
                CHURN_IN => SG_CHURN_IN6.insert(key, flow, any),
                CHURN_OUT => SG_CHURN_OUT6.insert(key, flow, any),
                PROBATION => SG_PROBATION6.insert(key, flow, any),
                _ => Err(0),
            })
        }
    });
    status.is_ok() as u32
}

/// Puts a flow into the main table; false when that is full, or no quota admits it.
#[inline(always)]
pub fn confirm(slot: u32, keys: &FlowKeys, flow: &Flow) -> bool {
    is_dry() || sg_confirm(slot, keys, flow) != 0
}

/// As [`sg_insert`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_confirm(slot: u32, keys: *const FlowKeys, flow: *const Flow) -> u32 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let (Some(keys), Some(flow)) = (unsafe { (keys.as_ref(), flow.as_ref()) }) else { return 0 };
    if !quota::admits(slot, keys) || !filter::add(filter::bit(keys)) {
        return 0;
    }
    let new = u64::from(BPF_NOEXIST);
    let status = with(flow, |flow| {
        if keys.is_v4() {
            with(&keys.short, |key| SG_FLOWS4.insert(key, flow, new))
        } else {
            with(&keys.full, |key| SG_FLOWS6.insert(key, flow, new))
        }
    });
    // Another CPU may have confirmed, and counted, the same flow a moment ago.
    const EEXIST: i32 = -17;
    if status.is_ok() {
        quota::count(slot, keys);
    }
    matches!(status, Ok(()) | Err(EEXIST)) as u32
}

/// Takes a flow out of a table.
#[inline(always)]
pub fn remove(table: FlowTable, keys: &FlowKeys) {
    if !is_dry() {
        sg_remove(number(table), keys);
    }
}

/// As [`sg_insert`]. What is already gone needs no removing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sg_remove(table: u32, keys: *const FlowKeys) -> u32 {
    // SAFETY: null, or memory of the caller's that outlives the call.
    let Some(keys) = (unsafe { keys.as_ref() }) else { return 0 };
    let status = if keys.is_v4() {
        with(&keys.short, |key| match table {
            MAIN => SG_FLOWS4.remove(key),
            CHURN_IN => SG_CHURN_IN4.remove(key),
            CHURN_OUT => SG_CHURN_OUT4.remove(key),
            _ => SG_PROBATION4.remove(key),
        })
    } else {
        with(&keys.full, |key| match table {
            MAIN => SG_FLOWS6.remove(key),
            CHURN_IN => SG_CHURN_IN6.remove(key),
            CHURN_OUT => SG_CHURN_OUT6.remove(key),
            _ => SG_PROBATION6.remove(key),
        })
    };
    status.is_ok() as u32
}
