//! What rules have counted, for longer than the kernel remembers.
//!
//! The program counts by index, and its counters begin at 0 when the machine does, or
//! when they are given to another rule. Here each rule has an account by its identity:
//! what it counted in all, since when, and when it was last hit. The daemon reads the
//! counters, adds what is new, and stores what has changed once a minute; an account
//! says how far it had read, so that a daemon that was killed loses nothing.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sg_common::event::Counter;

use crate::dataplane::{
    clock::possible_cpus,
    object::Maps,
    sys::{self, RawMap},
};

/// How often accounts are stored.
const STORED: Duration = Duration::from_secs(60);
/// Counters that are read each second; more of them each ten.
const FEW: usize = 8192;
/// Counters that nobody asked for, and are read all the same rather than asking twice.
const GAP: u32 = 64;
/// Counters that are read in one call.
const RUN: u32 = 4096;

/// What a rule has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Packets in all, as far as it was read.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// When it was last found to have counted, in seconds since 1970.
    pub hit: Option<u64>,
    /// Which kernel's counters were read, see [`kernel`].
    kernel: u64,
    /// Which of them.
    index: u32,
    /// What that had counted.
    read: (u64, u64),
}

impl Account {
    /// Nothing counted yet.
    pub(super) fn new(now: u64) -> Self {
        Self { packets: 0, bytes: 0, since: now, hit: None, kernel: 0, index: 0, read: (0, 0) }
    }

    /// Adds what a counter shows more than when it was last read. Another counter, and
    /// one that shows less, has begun at 0.
    fn add(&mut self, kernel: u64, index: u32, counter: Counter, now: u64) {
        let same = (self.kernel, self.index) == (kernel, index);
        let (packets, bytes) = self.read;
        let (packets, bytes) =
            if same && counter.packets >= packets && counter.bytes >= bytes { self.read } else { (0, 0) };
        let more = counter.packets - packets;
        self.packets = self.packets.saturating_add(more);
        self.bytes = self.bytes.saturating_add(counter.bytes - bytes);
        if more > 0 {
            self.hit = Some(now);
        }
        (self.kernel, self.index, self.read) = (kernel, index, (counter.packets, counter.bytes));
    }
}

/// Accounts by the identities of their rules, as they are stored.
pub type Accounts = BTreeMap<String, Account>;

/// Which kernel's counters these are: another number after each start of the machine, and
/// for another table.
///
/// # Errors
/// What the kernel says.
pub fn kernel(maps: &Maps) -> io::Result<u64> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.trim().parse::<uuid::Uuid>().map_err(io::Error::other)?;
    let table = sys::map_info(maps.rules.as_fd())?[1];
    let (high, low) = boot.as_u64_pair();
    Ok((high ^ low).wrapping_add(table.into()))
}

/// Reads counters, whose indices are given in ascending order.
///
/// # Errors
/// What the kernel says.
pub fn read(rules: &RawMap<u32, Counter>, indices: &[u32]) -> io::Result<Vec<Counter>> {
    let cpus = possible_cpus();
    let sum = |values: &[Counter]| {
        values
            .iter()
            .fold(Counter::default(), |a, c| Counter { packets: a.packets + c.packets, bytes: a.bytes + c.bytes })
    };
    let mut counters = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while let Some(&first) = rest.first() {
        let near = |pair: &[u32]| pair[1] - pair[0] <= GAP && pair[1] - first < RUN;
        let length = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (run, others) = rest.split_at(length);
        let values = rules.range_per_cpu(first, (run[length - 1] - first) as usize + 1, cpus)?;
        counters.extend(run.iter().map(|index| sum(&values[(index - first) as usize * cpus..][..cpus])));
        rest = others;
    }
    Ok(counters)
}

/// Keeps the accounts.
#[derive(Debug, Default)]
pub struct Accountant {
    accounts: Accounts,
    kernel: u64,
    /// Whose counters are read, as long as these are the ones there are.
    counters: Arc<HashMap<String, u32>>,
    /// The same in the order of their indices, and what each showed last.
    order: Vec<(u32, String, Option<Counter>)>,
    /// Of which state of the policy.
    state: Option<(u64, bool)>,
    /// Whose accounts are not stored as they are.
    changed: BTreeSet<String>,
    /// When they were last read, and stored.
    looked: Option<Instant>,
    stored: Option<Instant>,
}

impl Accountant {
    /// Goes on with what was stored.
    pub fn new(accounts: Accounts, kernel: u64) -> Self {
        Self { accounts, kernel, ..Self::default() }
    }

    /// Seconds between two readings.
    pub fn resolution(&self) -> u32 {
        if self.order.len() <= FEW { 1 } else { 10 }
    }

    /// Whether it is time to read. A tick may come a little early.
    pub fn is_due(&self, now: Instant) -> bool {
        let period = Duration::from_secs(self.resolution().into()).saturating_sub(Duration::from_millis(500));
        self.looked.is_none_or(|at| now.duration_since(at) >= period)
    }

    /// Follows counters that came and went. `state` tells states of the policy apart;
    /// `lives` says whose rules there are, in force or not: an account without either goes,
    /// and a counter that only a candidate's rule has gets none, for nothing is counted there.
    pub fn follow(
        &mut self,
        counters: &Arc<HashMap<String, u32>>,
        state: (u64, bool),
        now: u64,
        lives: impl FnOnce() -> HashSet<String>,
    ) {
        if Arc::ptr_eq(&self.counters, counters) && self.state == Some(state) {
            return;
        }
        // Held on to, so that another change makes another map.
        self.counters = counters.clone();
        self.state = Some(state);
        let mut order: Vec<(u32, String)> =
            counters.iter().map(|(identity, index)| (*index, identity.clone())).collect();
        order.sort_unstable();
        // Asked only where it matters: it takes a look at every rule.
        let lives = LazyCell::new(lives);
        for (_, identity) in &order {
            if !self.accounts.contains_key(identity) && lives.contains(identity) {
                self.accounts.insert(identity.clone(), Account::new(now));
                self.changed.insert(identity.clone());
            }
        }
        // Whatever it shows is added anew: to most, nothing.
        self.order = order.into_iter().map(|(index, identity)| (index, identity, None)).collect();
        if self.accounts.keys().any(|identity| !counters.contains_key(identity)) {
            let gone = self
                .accounts
                .extract_if(.., |identity, _| !counters.contains_key(identity) && !lives.contains(identity));
            self.changed.extend(gone.map(|(identity, _)| identity));
        }
    }

    /// Reads all counters by `read`, which is given their indices in ascending order.
    ///
    /// # Errors
    /// What `read` says.
    pub fn look<E>(&mut self, now: u64, read: impl FnOnce(&[u32]) -> Result<Vec<Counter>, E>) -> Result<(), E> {
        self.looked = Some(Instant::now());
        let indices: Vec<u32> = self.order.iter().map(|(index, ..)| *index).collect();
        for ((index, identity, last), counter) in self.order.iter_mut().zip(read(&indices)?) {
            if *last == Some(counter) {
                continue;
            }
            *last = Some(counter);
            let Some(account) = self.accounts.get_mut(identity) else { continue };
            let before = account.clone();
            account.add(self.kernel, *index, counter, now);
            if *account != before {
                self.changed.insert(identity.clone());
            }
        }
        Ok(())
    }

    /// The account of a rule, as last read.
    pub fn of(&self, identity: &str) -> Option<&Account> {
        self.accounts.get(identity)
    }

    /// All of them.
    pub fn all(&self) -> &Accounts {
        &self.accounts
    }

    /// Whether accounts of rules that still are would be lost with this process: their
    /// counters have been emptied since they were stored.
    pub fn hangs_by_us(&self) -> bool {
        self.changed
            .iter()
            .any(|identity| self.accounts.contains_key(identity) && !self.counters.contains_key(identity))
    }

    /// What is to be stored, if it is time to: at first, and each minute. With `now`, it is.
    pub fn to_store(&mut self, now: bool) -> Option<Vec<(String, Option<Account>)>> {
        let is_time = now || self.stored.is_none_or(|at| at.elapsed() >= STORED);
        if !is_time || self.changed.is_empty() {
            return None;
        }
        self.stored = Some(Instant::now());
        let changed = self.changed.iter();
        Some(changed.map(|identity| (identity.clone(), self.accounts.get(identity).cloned())).collect())
    }

    /// What was to be stored is.
    pub fn stored(&mut self) {
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters of a kernel, by index.
    type Kernel = BTreeMap<u32, u64>;

    fn counters(all: &[(&str, u32)]) -> Arc<HashMap<String, u32>> {
        Arc::new(all.iter().map(|(identity, index)| ((*identity).to_owned(), *index)).collect())
    }

    fn look(accountant: &mut Accountant, now: u64, kernel: &Kernel) {
        let read = |indices: &[u32]| -> Result<Vec<Counter>, ()> {
            assert!(indices.is_sorted());
            let counter = |i: &u32| kernel.get(i).copied().unwrap_or(0);
            Ok(indices.iter().map(|i| Counter { packets: counter(i), bytes: 100 * counter(i) }).collect())
        };
        accountant.look(now, read).unwrap();
    }

    /// Packets, bytes, since, hit.
    fn shown(accountant: &Accountant, identity: &str) -> (u64, u64, u64, Option<u64>) {
        let a = accountant.of(identity).unwrap();
        (a.packets, a.bytes, a.since, a.hit)
    }

    /// Follows counters of rules in force, while there are others besides.
    fn follow(
        accountant: &mut Accountant,
        counters: &Arc<HashMap<String, u32>>,
        state: (u64, bool),
        now: u64,
        besides: &[&str],
    ) {
        let lives = || counters.keys().cloned().chain(besides.iter().map(ToString::to_string)).collect();
        accountant.follow(counters, state, now, lives);
    }

    /// What a store has after it was given what is to be stored.
    fn store(accountant: &mut Accountant, into: &mut Accounts) {
        for (identity, account) in accountant.to_store(true).unwrap_or_default() {
            match account {
                Some(account) => drop(into.insert(identity, account)),
                None => drop(into.remove(&identity)),
            }
        }
        accountant.stored();
    }

    #[test]
    fn hits_are_added_and_noted() {
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 2), ("g/b", 1)]), (1, false), 100, &[]);
        look(&mut a, 100, &Kernel::new());
        assert_eq!(shown(&a, "g/a"), (0, 0, 100, None));
        look(&mut a, 101, &Kernel::from([(2, 3)]));
        look(&mut a, 102, &Kernel::from([(2, 3)]));
        look(&mut a, 103, &Kernel::from([(1, 1), (2, 5)]));
        look(&mut a, 104, &Kernel::from([(1, 1), (2, 5)]));
        assert_eq!(shown(&a, "g/a"), (5, 500, 100, Some(103)));
        assert_eq!(shown(&a, "g/b"), (1, 100, 100, Some(103)));
    }

    #[test]
    fn a_daemon_that_was_killed_loses_nothing() {
        let (mut stored, all) = (Accounts::new(), counters(&[("g/a", 1)]));
        let mut first = Accountant::new(Accounts::new(), 1);
        follow(&mut first, &all, (1, false), 100, &[]);
        look(&mut first, 101, &Kernel::from([(1, 3)]));
        store(&mut first, &mut stored);
        look(&mut first, 102, &Kernel::from([(1, 9)]));
        // What it read last is not stored; the kernel counts on.
        let mut second = Accountant::new(stored, 1);
        follow(&mut second, &all, (1, false), 200, &[]);
        look(&mut second, 200, &Kernel::from([(1, 10)]));
        assert_eq!(shown(&second, "g/a"), (10, 1000, 100, Some(200)));
    }

    #[test]
    fn a_restart_that_nothing_hit_meanwhile_keeps_the_last_hit() {
        let (mut stored, all) = (Accounts::new(), counters(&[("g/a", 1)]));
        let mut first = Accountant::new(Accounts::new(), 1);
        follow(&mut first, &all, (1, false), 100, &[]);
        look(&mut first, 101, &Kernel::from([(1, 3)]));
        store(&mut first, &mut stored);
        let mut second = Accountant::new(stored, 1);
        follow(&mut second, &all, (1, false), 200, &[]);
        look(&mut second, 200, &Kernel::from([(1, 3)]));
        assert_eq!(shown(&second, "g/a"), (3, 300, 100, Some(101)));
        assert!(second.to_store(true).is_none(), "nothing has changed");
    }

    #[test]
    fn totals_go_on_when_the_machine_starts_anew() {
        let (mut stored, all) = (Accounts::new(), counters(&[("g/a", 1), ("g/b", 2)]));
        let mut before = Accountant::new(Accounts::new(), 1);
        follow(&mut before, &all, (1, false), 100, &[]);
        look(&mut before, 101, &Kernel::from([(1, 50), (2, 50)]));
        store(&mut before, &mut stored);
        // One had more packets by the first look than it ever showed before.
        let mut after = Accountant::new(stored, 2);
        follow(&mut after, &all, (1, false), 200, &[]);
        look(&mut after, 200, &Kernel::from([(1, 60)]));
        assert_eq!(shown(&after, "g/a"), (110, 11_000, 100, Some(200)));
        assert_eq!(shown(&after, "g/b"), (50, 5000, 100, Some(101)));
        look(&mut after, 201, &Kernel::from([(1, 61), (2, 1)]));
        assert_eq!((shown(&after, "g/a").0, shown(&after, "g/b").0), (111, 51));
    }

    #[test]
    fn a_counter_that_shows_less_has_begun_anew() {
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 1)]), (1, false), 100, &[]);
        look(&mut a, 101, &Kernel::from([(1, 7)]));
        look(&mut a, 102, &Kernel::from([(1, 2)]));
        assert_eq!(shown(&a, "g/a"), (9, 900, 100, Some(102)));
    }

    #[test]
    fn what_only_a_candidate_has_is_nobodys_account() {
        let all = counters(&[("g/a", 1), ("g/new", 2)]);
        let set = |all: &[&str]| all.iter().map(|identity| (*identity).to_owned()).collect::<HashSet<_>>();
        let (mut a, mut stored) = (Accountant::new(Accounts::new(), 1), Accounts::new());
        a.follow(&all, (1, false), 100, || set(&["g/a"]));
        look(&mut a, 101, &Kernel::new());
        store(&mut a, &mut stored);
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["g/a"]);
        // Promoted, it is one of those in force, and is counted from then on.
        a.follow(&all, (2, false), 200, || set(&["g/a", "g/new"]));
        assert_eq!(shown(&a, "g/new"), (0, 0, 200, None));
    }

    #[test]
    fn an_index_that_another_rule_has_is_not_its_own() {
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 1)]), (1, false), 100, &[]);
        look(&mut a, 101, &Kernel::from([(1, 7)]));
        // Its interface went away, and came back when another rule had its index.
        follow(&mut a, &counters(&[("g/b", 1)]), (2, false), 102, &["g/a"]);
        look(&mut a, 103, &Kernel::from([(1, 20)]));
        follow(&mut a, &counters(&[("g/b", 1), ("g/a", 2)]), (2, false), 104, &[]);
        look(&mut a, 105, &Kernel::from([(1, 21), (2, 30)]));
        assert_eq!(shown(&a, "g/a"), (37, 3700, 100, Some(105)));
        assert_eq!(shown(&a, "g/b"), (21, 2100, 102, Some(105)));
    }

    #[test]
    fn what_was_emptied_and_is_not_stored_hangs_by_this_process() {
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 1)]), (1, false), 100, &[]);
        look(&mut a, 101, &Kernel::from([(1, 7)]));
        assert!(!a.hangs_by_us(), "the kernel still has it");
        follow(&mut a, &counters(&[]), (1, false), 102, &["g/a"]);
        assert!(a.hangs_by_us());
        store(&mut a, &mut Accounts::new());
        assert!(!a.hangs_by_us());
    }

    #[test]
    fn the_account_of_a_rule_that_is_no_more_goes() {
        let mut stored = Accounts::new();
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 1), ("g/b", 2)]), (1, false), 100, &[]);
        look(&mut a, 101, &Kernel::from([(1, 7)]));
        store(&mut a, &mut stored);
        assert_eq!(stored.len(), 2);
        // Its counter is still there; then it is not in force; then it is gone.
        let b = || HashSet::from(["g/b".to_owned()]);
        a.follow(&counters(&[("g/a", 1), ("g/b", 2)]), (2, false), 102, b);
        assert!(a.of("g/a").is_some());
        a.follow(&counters(&[]), (3, false), 103, b);
        assert!(a.of("g/a").is_none() && a.of("g/b").is_some());
        store(&mut a, &mut stored);
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["g/b"]);
        follow(&mut a, &counters(&[]), (4, false), 104, &[]);
        store(&mut a, &mut stored);
        assert!(a.all().is_empty() && stored.is_empty());
        // One of the same name is another.
        follow(&mut a, &counters(&[("g/a", 3)]), (5, false), 105, &[]);
        look(&mut a, 106, &Kernel::from([(3, 1)]));
        assert_eq!(shown(&a, "g/a"), (1, 100, 105, Some(106)));
    }

    #[test]
    fn it_is_stored_at_first_and_then_once_a_minute() {
        let mut a = Accountant::new(Accounts::new(), 1);
        follow(&mut a, &counters(&[("g/a", 1)]), (1, false), 100, &[]);
        assert_eq!(a.to_store(false).unwrap().len(), 1);
        a.stored();
        look(&mut a, 101, &Kernel::from([(1, 7)]));
        assert!(a.to_store(false).is_none(), "within the minute");
        a.stored = Instant::now().checked_sub(STORED);
        assert_eq!(a.to_store(false).unwrap().len(), 1);
        // It failed: it is tried again, a minute later.
        assert!(a.to_store(false).is_none());
        assert_eq!(a.to_store(true).unwrap().len(), 1);
    }

    #[test]
    fn many_counters_are_read_less_often() {
        let mut a = Accountant::default();
        assert!(a.is_due(Instant::now()));
        let few: Vec<(String, u32)> = (1..=FEW as u32).map(|i| (i.to_string(), i)).collect();
        follow(&mut a, &Arc::new(few.iter().cloned().collect()), (1, false), 100, &[]);
        assert_eq!(a.resolution(), 1);
        follow(&mut a, &Arc::new(few.into_iter().chain([("x".into(), 60_000)]).collect()), (1, false), 100, &[]);
        assert_eq!(a.resolution(), 10);
        look(&mut a, 101, &Kernel::new());
        let now = Instant::now();
        assert!(!a.is_due(now + Duration::from_secs(9)) && a.is_due(now + Duration::from_secs(10)));
    }
}
