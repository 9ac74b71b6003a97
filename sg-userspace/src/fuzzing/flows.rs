//! Conntrack and fragment tables in memory, so small that they overflow, with
//! the promises of the kernel's: the main table refuses, the others evict.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use sg_common::{
    flow::{Flow, FlowKey, FlowKey4, FlowKeys, FragEntry, FragKey},
    generation::{Generation, OwnKey},
    policy::RuleRow,
};
use sg_ebpf::{
    classify::Query,
    tables::{FlowTable, Tables, Without},
};

use super::world::World;

const MAIN: usize = 4;
const CHURN: usize = 3;
const FRAGMENTS: usize = 3;

type Table = RefCell<Vec<(FlowKey, usize)>>;

/// The tables of one interface.
pub struct Flows {
    world: Cell<&'static World>,
    /// Every flow there ever was: what a stage borrows stays, also behind a removal.
    #[expect(clippy::vec_box, reason = "a flow must stay where it is while the list grows")]
    all: RefCell<Vec<Box<Flow>>>,
    main: Table,
    /// By initiating direction, and on probation.
    churn: [Table; 3],
    fragments: RefCell<Vec<(FragKey, FragEntry)>>,
    /// When a packet of a flow that was once accepted was last seen.
    pub accepted: RefCell<HashMap<FlowKey, u32>>,
}

impl Flows {
    /// Empty ones.
    pub fn new(world: &'static World) -> Self {
        Self {
            world: Cell::new(world),
            all: RefCell::default(),
            main: Table::default(),
            churn: Default::default(),
            fragments: RefCell::default(),
            accepted: RefCell::default(),
        }
    }

    /// Puts another policy in force.
    pub fn change(&self, world: &'static World) {
        self.world.set(world);
    }

    /// The policy in force.
    pub fn world(&self) -> &'static World {
        self.world.get()
    }

    fn of(&self, table: FlowTable) -> &Table {
        match table {
            FlowTable::Main => &self.main,
            FlowTable::Churn(direction) => &self.churn[direction as usize],
            FlowTable::Probation => &self.churn[2],
        }
    }

    fn find(&self, table: &Table, key: &FlowKey) -> Option<&Flow> {
        let index = table.borrow().iter().find(|(k, _)| k == key)?.1;
        let flow: *const Flow = &raw const *self.all.borrow()[index];
        // SAFETY: the box is never taken out of `all`, which lives as long as
        // `self`, and nobody has a unique reference to what is in it.
        Some(unsafe { &*flow })
    }

    fn confirmed(&self, key: &FlowKey) -> Result<&Flow, Without> {
        let churn = || self.churn.iter().any(|t| self.find(t, key).is_some());
        self.find(&self.main, key).ok_or_else(|| if churn() { Without::Confirmed } else { Without::AnyFlow })
    }
}

impl Tables for Flows {
    fn decide(&self, _: &Generation, query: &Query) -> Option<RuleRow> {
        self.world.get().policy.decide(query)
    }
    fn confirmed4(&self, key: &FlowKey4, _: bool) -> Result<&Flow, Without> {
        self.confirmed(&FlowKey::from(*key))
    }
    fn confirmed6(&self, key: &FlowKey, _: bool) -> Result<&Flow, Without> {
        self.confirmed(key)
    }
    fn flow(&self, keys: &FlowKeys) -> Option<&Flow> {
        [&self.main].into_iter().chain(&self.churn).find_map(|t| self.find(t, &keys.full))
    }
    fn insert(&self, table: FlowTable, keys: &FlowKeys, flow: &Flow) -> bool {
        let mut entries = self.of(table).borrow_mut();
        let main = table == FlowTable::Main;
        match entries.iter().position(|(k, _)| *k == keys.full) {
            Some(_) if main => return true,
            Some(old) => drop(entries.remove(old)),
            None if main && entries.len() == MAIN => return false,
            None if !main && entries.len() == CHURN => drop(entries.remove(0)),
            None => {}
        }
        let mut all = self.all.borrow_mut();
        entries.push((keys.full, all.len()));
        all.push(Box::new(flow.clone()));
        true
    }
    fn remove(&self, table: FlowTable, keys: &FlowKeys) {
        self.of(table).borrow_mut().retain(|(k, _)| *k != keys.full);
    }
    fn fragment(&self, key: &FragKey) -> Option<FragEntry> {
        self.fragments.borrow().iter().find(|(k, _)| k == key).map(|(_, entry)| *entry)
    }
    fn remember(&self, key: &FragKey, entry: &FragEntry) {
        let mut fragments = self.fragments.borrow_mut();
        fragments.retain(|(k, _)| k != key);
        if fragments.len() == FRAGMENTS {
            fragments.remove(0);
        }
        fragments.push((*key, *entry));
    }
    fn owns(&self, key: &OwnKey) -> bool {
        self.world.get().instances[0].addresses.iter().any(|a| sg_common::addr::Addr::from(*a) == key.addr)
    }
}
