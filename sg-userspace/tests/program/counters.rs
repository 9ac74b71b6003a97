//! Counters of rules, read many at once.

use std::time::{Duration, Instant};

use sg_common::{event::Counter, limits::MAX_RULES};
use sg_userspace::{daemon::stats, dataplane::clock::possible_cpus};

use crate::support::kernel::probe;

#[test]
fn counters_read_in_runs_are_those_read_one_by_one() {
    let Some(probe) = probe() else { return };
    let rules = &probe.maps().rules;
    // Neighbours, gaps of all sizes, the first and the last there are.
    let indices = [1, 2, 3, 60, 125, 300, 4395, 4396, 9000, MAX_RULES - 70, MAX_RULES - 1];
    for index in indices {
        let one = |cpu: u64| Counter { packets: u64::from(index) + cpu, bytes: 100 * u64::from(index) + cpu };
        let values: Vec<Counter> = (0..possible_cpus() as u64).map(one).collect();
        rules.update_per_cpu(&index, &values).unwrap();
        // What nobody asks for stands between.
        if index + 1 < MAX_RULES && !indices.contains(&(index + 1)) {
            rules.update_per_cpu(&(index + 1), &values).unwrap();
        }
    }
    let sum = |index: &u32| {
        let values = rules.get_per_cpu(index, possible_cpus()).unwrap();
        let add = |a: Counter, c: &Counter| Counter { packets: a.packets + c.packets, bytes: a.bytes + c.bytes };
        values.iter().fold(Counter::default(), add)
    };
    let single: Vec<Counter> = indices.iter().map(sum).collect();
    assert!(single.iter().all(|c| c.packets > 0));
    assert_eq!(stats::read(rules, &indices).unwrap(), single);
    assert_eq!(stats::read(rules, &[]).unwrap(), []);

    // All there can be: the daemon does nothing else meanwhile.
    let all: Vec<u32> = (1..MAX_RULES).collect();
    let begun = Instant::now();
    assert_eq!(stats::read(rules, &all).unwrap().len(), all.len());
    let took = begun.elapsed();
    eprintln!("{} counters in {took:?}", all.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
}
