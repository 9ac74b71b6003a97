//! The pinned maps of a daemon, as one who has the same rights sees and writes them.

use sg_common::{account::Account, flow::FlowKey, generation::Generation, maps, shadow};
use sg_userspace::{
    dataplane::sys::{self, RawMap},
    testbed::Daemon,
};

/// The entry of a device, as one who has the same rights can write it.
pub struct Entry<'a> {
    ifaces: &'a RawMap<u32, u64>,
    index: u32,
}

impl Entry<'_> {
    pub fn update(&self, record: u64) {
        self.ifaces.update(&self.index, &record).unwrap();
    }
}

/// Writes another generation into the record of the one protected device.
pub fn alter(daemon: &Daemon<'_>, change: impl Fn(&Entry<'_>, Generation) -> Generation + Sync) {
    let pins = daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION));
    let write = || {
        let ifaces = RawMap::<u32, u64>::new(sys::open_pin(&pins.join(maps::IFACES))?, 4, 8)?;
        let generations = sys::open_pin(&pins.join(maps::GENERATIONS))?;
        let generations = RawMap::<u32, Generation>::new(generations, 4, size_of::<Generation>() as u32)?;
        for index in 1..1000 {
            let Some(record) = ifaces.get(&index)?.filter(|record| *record != 0) else { continue };
            let there = generations.get(&(record as u32))?.unwrap();
            let altered = change(&Entry { ifaces: &ifaces, index }, there);
            generations.update(&(record as u32), &altered)?;
            return Ok(());
        }
        panic!("no device is protected");
    };
    daemon.enter(write).unwrap();
}

/// How many flows are counted.
pub fn accounts(daemon: &Daemon<'_>) -> usize {
    let pins = daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION));
    let count = || {
        let map = sys::open_pin(&pins.join(maps::ACCOUNTS))?;
        let map = RawMap::<FlowKey, Account>::new(map, size_of::<FlowKey>() as u32, size_of::<Account>() as u32)?;
        let mut count = 0;
        map.each(|_, _| count += 1)?;
        Ok(count)
    };
    daemon.enter(count).unwrap()
}

/// Id of the map that holds the tables of a policy, by what a generation names a candidate by.
pub fn policy_id(daemon: &Daemon<'_>, packed: u32) -> u32 {
    let pins = daemon.dir().join("bpf/sg").join(format!("v{}", sg_common::ABI_VERSION));
    let read = || {
        let class = maps::POLICIES[shadow::class(packed) as usize];
        let outer = RawMap::<u32, u32>::new(sys::open_pin(&pins.join(class))?, 4, 4)?;
        Ok(outer.get(&shadow::index(packed))?.unwrap())
    };
    daemon.enter(read).unwrap()
}
