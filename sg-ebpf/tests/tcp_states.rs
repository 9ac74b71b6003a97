//! Every state that a TCP flow can reach, by every packet, after every pause:
//! walked from the empty table until nothing new comes up.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
};

use sg_common::{
    flow::{ACK_GRAIN, Cell, Direction, Flow, FlowKey, FlowKey4, FlowKeys, FragEntry, FragKey, place, seen},
    generation::{Generation, OwnKey},
    limits::{TIMEOUT_HALF_OPEN, TIMEOUT_TCP, TIMEOUT_TCP_CLOSED},
    policy::RuleRow,
    reason::{Reason, Verdict},
};
use sg_ebpf::{
    Direct, Scratch, Stages,
    classify::Query,
    conntrack::{Clock, state},
    packet::Bytes,
    pipeline,
    tables::{FlowTable, Tables, Without},
    verdict::Decision,
};

const HZ: u32 = 250;
const NOW: u32 = 1_000_000;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Set with a RST whose sequence number nobody waits for.
const FAR: u8 = 64;
/// Set with an ACK that has moved on by more than a grain.
const MOVED: u8 = 128;
const FLAGS: [u8; 10] =
    [SYN, SYN | ACK, ACK, ACK | 8, ACK | MOVED, FIN | ACK, RST, RST | ACK, RST | FAR, FIN | ACK | 8];
/// Seconds: at once, past a closed flow's timeout, past a half-open one's, past an established one's.
const PAUSES: [u16; 4] = [0, TIMEOUT_TCP_CLOSED + 1, TIMEOUT_HALF_OPEN + 1, TIMEOUT_TCP + 1];

/// A flow without its times; seconds since each direction showed itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    seen: [u8; 2],
    age: [u16; 2],
    /// What each direction has acknowledged; 0 for nothing yet.
    ack: [u32; 2],
    origin: u8,
    place: u8,
}

/// What the tables hold of one connection: main, by who began, on probation.
type State = [Option<Entry>; 4];

/// The tables of one connection. What is borrowed stays where it is: a table
/// that loses its flow keeps the bytes.
struct Tables1 {
    flows: [RefCell<Vec<Flow>>; 4],
    there: RefCell<[Option<usize>; 4]>,
    accepts: [bool; 2],
}

fn at(table: FlowTable) -> usize {
    match table {
        FlowTable::Main => 0,
        FlowTable::Churn(direction) => 1 + direction as usize,
        FlowTable::Probation => 3,
    }
}

impl Tables1 {
    fn new(state: &State, accepts: [bool; 2]) -> Self {
        let flows = state.map(|entry| {
            let mut room = Vec::with_capacity(8);
            room.extend(entry.map(|e| Flow {
                last: e.age.map(|age| Cell::new(NOW - u32::from(age) * HZ)),
                ack: e.ack.map(Cell::new),
                epoch: Cell::new(1),
                rule: Cell::new(7),
                timeout: TIMEOUT_TCP,
                seen: e.seen.map(Cell::new),
                origin: Cell::new(e.origin),
                verdict: Cell::new(Verdict::Accept as u8),
                timeout_closed: TIMEOUT_TCP_CLOSED as u8,
                place: e.place,
            }));
            RefCell::new(room)
        });
        Self { flows, there: RefCell::new(state.map(|e| e.map(|_| 0))), accepts }
    }

    fn get(&self, table: usize) -> Option<&Flow> {
        let index = self.there.borrow()[table]?;
        let flow: *const Flow = &raw const self.flows[table].borrow()[index];
        // SAFETY: the vector never grows past its first room, and loses nothing.
        Some(unsafe { &*flow })
    }

    fn state(&self) -> State {
        [0, 1, 2, 3].map(|table| {
            let flow = self.get(table)?;
            assert_eq!(flow.verdict.get(), Verdict::Accept as u8, "no change of policy, no cut");
            let age = |side: usize| (NOW.wrapping_sub(flow.last[side].get()) / HZ) as u16;
            Some(Entry {
                seen: [flow.seen[0].get(), flow.seen[1].get()],
                age: [age(0), age(1)],
                ack: [flow.ack[0].get(), flow.ack[1].get()],
                origin: flow.origin.get(),
                place: flow.place,
            })
        })
    }

    fn confirmed(&self) -> Result<&Flow, Without> {
        let churn = (1..4).any(|table| self.get(table).is_some());
        self.get(0).ok_or(if churn { Without::Confirmed } else { Without::AnyFlow })
    }
}

impl Tables for Tables1 {
    fn decide(&self, _: &Generation, query: &Query) -> Option<RuleRow> {
        let accept = self.accepts[query.direction as usize & 1];
        let verdict = if accept { Verdict::Accept } else { Verdict::Drop };
        Some(RuleRow { counter: 7, verdict: verdict as u8, reason: Reason::Rule as u8, pad: 0 })
    }
    fn confirmed4(&self, _: &FlowKey4, _: bool) -> Result<&Flow, Without> {
        self.confirmed()
    }
    fn confirmed6(&self, _: &FlowKey, _: bool) -> Result<&Flow, Without> {
        self.confirmed()
    }
    fn flow(&self, _: &FlowKeys) -> Option<&Flow> {
        (0..4).find_map(|table| self.get(table))
    }
    fn insert(&self, table: FlowTable, _: &FlowKeys, flow: &Flow) -> bool {
        let table = at(table);
        if table == 0 && self.there.borrow()[0].is_some() {
            return true;
        }
        let mut room = self.flows[table].borrow_mut();
        assert!(room.len() < room.capacity());
        self.there.borrow_mut()[table] = Some(room.len());
        room.push(flow.clone());
        true
    }
    fn remove(&self, table: FlowTable, _: &FlowKeys) {
        self.there.borrow_mut()[at(table)] = None;
    }
    fn fragment(&self, _: &FragKey) -> Option<FragEntry> {
        None
    }
    fn remember(&self, _: &FragKey, _: &FragEntry) {}
    fn owns(&self, _: &OwnKey) -> bool {
        true
    }
}

fn frame(inbound: bool, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    let (local, remote) = (([10, 0, 0, 5], 443u16), ([192, 0, 2, 7], 40_000u16));
    let (source, destination) = if inbound { (remote, local) } else { (local, remote) };
    frame.extend(source.0.iter().chain(&destination.0));
    frame.extend(source.1.to_be_bytes().into_iter().chain(destination.1.to_be_bytes()));
    let seq: u32 = if flags & FAR != 0 { 1 << 31 } else { 1 };
    let ack: u32 = if flags & MOVED != 0 { 2 + ACK_GRAIN } else { 1 };
    frame.extend(seq.to_be_bytes().into_iter().chain(ack.to_be_bytes()));
    frame.extend([0x50, flags & !(FAR | MOVED), 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

fn generation() -> Generation {
    Generation {
        deadline: 0,
        observe_until: 0,
        policy: 0,
        epoch: 1,
        previous: 0,
        shadow: 0,
        zone: 1,
        slot: 1,
        flags: 0,
        drain_until: 0,
        tcp_established: TIMEOUT_TCP,
        udp: 30,
        tcp_closed: TIMEOUT_TCP_CLOSED as u8,
        on_change: 0,
        mac: [0; 6],
        policy_class: 0,
    }
}

/// Judges a packet both ways; returns the decision and the tables after it.
fn step(before: &State, accepts: [bool; 2], inbound: bool, flags: u8) -> (Decision, State) {
    let clock = Clock { now: NOW, hz: HZ };
    let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
    let (generation, bytes) = (generation(), frame(inbound, flags));
    let packet = Bytes::new(&bytes);
    let tables = Tables1::new(before, accepts);
    let mut scratch = Scratch::default();
    scratch.begin(clock, direction);
    let decision = pipeline(&Direct { packet: &packet, tables: &tables }, &generation, &mut scratch);
    let after = tables.state();

    let other = Tables1::new(before, accepts);
    if let Some(short) = (Direct { packet: &packet, tables: &other }).fast(&generation, clock, direction) {
        assert_eq!(short, decision, "the short way, in {before:?}");
        assert_eq!(other.state(), after, "the short way leaves other tables, in {before:?}");
    }
    (decision, after)
}

/// Seconds the entry may be idle, from the book: see DESIGN's table of timeouts.
fn timeout(e: &Entry) -> u16 {
    let both = e.seen[0] & e.seen[1];
    let [from, to] = if e.origin == 0 { [0, 1] } else { [1, 0] };
    if (e.seen[0] | e.seen[1]) & seen::RST != 0 || both & seen::FIN != 0 {
        TIMEOUT_TCP_CLOSED
    } else if e.seen[from] & seen::ANSWERED != 0 && e.seen[to] & seen::ANY != 0 {
        TIMEOUT_TCP
    } else {
        TIMEOUT_HALF_OPEN
    }
}

fn is_alive(e: &Entry) -> bool {
    e.age[0].min(e.age[1]) <= timeout(e)
}

/// What must hold of every step.
fn hold(before: &State, accepts: [bool; 2], inbound: bool, flags: u8, decision: &Decision, after: &State) {
    let shown = || format!("{before:?}\n{} {flags:#x}: {decision:?}\n{after:?}", if inbound { "in" } else { "out" });
    let live = before.iter().flatten().find(|e| is_alive(e));
    let side = usize::from(!inbound);
    // A SYN-ACK from the instance answers a SYN that came in.
    let judged = if flags == SYN | ACK && !inbound { 0 } else { side };
    let admitted = accepts[judged] && !(flags == SYN | ACK && inbound);
    match live {
        None => assert_eq!(decision.is_accept(), admitted, "without a flow the rules decide\n{}", shown()),
        Some(_) if decision.is_accept() => {}
        // Within a live flow only a SYN that the rules refuse is refused.
        Some(_) => assert!(flags == SYN && !accepts[side], "{}", shown()),
    }
    // A copy left in another table would come back to life once this one is gone.
    assert!(after.iter().flatten().count() <= 1, "in two tables\n{}", shown());
    for (table, entry) in after.iter().enumerate() {
        let Some(e) = entry else { continue };
        let place = [place::MAIN, place::CHURN, place::CHURN, place::PROBATION][table];
        assert_eq!(e.place, place, "{}", shown());
        if table == 0 && before[0].is_none() {
            // The main table takes no flow before its initiator has answered the other side.
            let origin = usize::from(e.origin);
            assert_eq!(side, origin, "confirmed by whoever did not begin\n{}", shown());
            assert!(e.seen[origin] & seen::ANSWERED != 0 && e.seen[origin ^ 1] & seen::ANY != 0, "{}", shown());
            assert!(flags & (SYN | RST) == 0 && flags & ACK != 0, "{}", shown());
        }
        if !decision.is_accept() {
            assert_eq!(before[table].map(|b| b.seen), Some(e.seen), "a dropped packet changes no flow\n{}", shown());
        }
    }
    if flags == RST | FAR && live.is_some_and(|e| e.ack[side ^ 1] != 0) {
        assert_eq!(after, before, "a reset that nobody waits for changes nothing");
    }
    // A closed flow is not opened again by anything but a SYN, or a segment after a reset, which takes it back.
    if let (Some(b), Some(a)) = (live, after.iter().flatten().next())
        && timeout(b) == TIMEOUT_TCP_CLOSED
        && timeout(a) != TIMEOUT_TCP_CLOSED
    {
        let taken_back = (b.seen[0] | b.seen[1]) & seen::RST != 0 && flags & RST == 0;
        assert!(flags == SYN || taken_back, "{}", shown());
    }
}

/// Walks everything that can be reached; returns how many states and steps.
fn walk(accepts: [bool; 2], directions: &[bool]) -> (BTreeSet<State>, usize) {
    let mut known = BTreeSet::from([[None; 4]]);
    let mut queue = VecDeque::from([[None; 4]]);
    let mut steps = 0;
    while let Some(state) = queue.pop_front() {
        for pause in PAUSES {
            let before = state.map(|e| e.map(|e: Entry| Entry { age: e.age.map(|age| age.max(pause)), ..e }));
            for &inbound in directions {
                for flags in FLAGS {
                    let (decision, after) = step(&before, accepts, inbound, flags);
                    hold(&before, accepts, inbound, flags, &decision, &after);
                    steps += 1;
                    if known.insert(after) {
                        queue.push_back(after);
                    }
                }
            }
        }
    }
    (known, steps)
}

#[test]
fn every_reachable_state_holds() {
    for accepts in [[true, true], [false, true], [true, false], [false, false]] {
        let (states, steps) = walk(accepts, &[true, false]);
        println!("inbound {}, outbound {}: {} states, {steps} steps", accepts[0], accepts[1], states.len());
        let enough = if accepts == [false, false] { 1 } else { 50 };
        assert!(states.len() >= enough, "only {} states: the walk does not walk", states.len());
    }
}

/// A flood: whatever one side sends alone, nothing is confirmed.
#[test]
fn one_side_alone_confirms_nothing() {
    for inbound in [true, false] {
        let (states, _) = walk([true, true], &[inbound]);
        assert!(states.iter().all(|s| s[0].is_none()));
    }
}

/// The book, once from end to end.
#[test]
fn a_connection_from_syn_to_close() {
    let mut state: State = [None; 4];
    let mut go = |inbound, flags| {
        let (decision, after) = step(&state, [true, false], inbound, flags);
        state = after;
        (decision.is_accept(), after.iter().flatten().next().map(timeout))
    };
    assert_eq!(go(true, SYN), (true, Some(TIMEOUT_HALF_OPEN)));
    assert_eq!(go(true, SYN), (true, Some(TIMEOUT_HALF_OPEN)), "sent again");
    assert_eq!(go(false, SYN | ACK), (true, Some(TIMEOUT_HALF_OPEN)));
    assert_eq!(go(true, ACK), (true, Some(TIMEOUT_TCP)));
    assert_eq!(go(false, ACK | 8), (true, Some(TIMEOUT_TCP)));
    assert_eq!(go(true, FIN | ACK), (true, Some(TIMEOUT_TCP)), "half closed");
    assert_eq!(go(false, ACK | 8), (true, Some(TIMEOUT_TCP)), "the other half still speaks");
    assert_eq!(go(false, FIN | ACK), (true, Some(TIMEOUT_TCP_CLOSED)));
    assert_eq!(go(true, ACK), (true, Some(TIMEOUT_TCP_CLOSED)));
    assert_eq!(go(true, SYN), (true, Some(TIMEOUT_HALF_OPEN)), "the same ports again");
    assert_eq!(state::SHORTEST, u32::from(TIMEOUT_TCP_CLOSED));
}

/// A flow of which both sides have acknowledged up to a number, `silent` seconds ago.
fn flow_at(ack: u32, silent: u16) -> Flow {
    let both = Entry {
        seen: [seen::ANY | seen::SYN | seen::ANSWERED; 2],
        age: [silent; 2],
        ack: [ack; 2],
        origin: 0,
        place: place::MAIN,
    };
    let tables = Tables1::new(&[Some(both), None, None, None], [true; 2]);
    tables.get(0).unwrap().clone()
}

#[test]
fn a_reset_counts_where_the_next_byte_is_due() {
    let clock = Clock { now: NOW, hz: HZ };
    // Anywhere in the numbers, also where they wrap.
    for ack in [1u32, 5000, 1 << 31, u32::MAX, u32::MAX - 100] {
        for (silent, ahead) in [(0, 1 << 20), (2, ACK_GRAIN)] {
            let flow = flow_at(ack, silent);
            let believes = |offset: i64| {
                let seq = (i64::from(ack) + offset) as u32;
                state::believes_reset(&flow, 0, seq, clock)
            };
            let (grain, ahead) = (i64::from(ACK_GRAIN), i64::from(ahead));
            for near in [-grain, -1, 0, 1, ahead] {
                assert!(believes(near), "{near} from {ack}, silent for {silent}");
            }
            for far in [-grain - 1, ahead + 1, 1 << 31, -(1 << 30)] {
                assert!(!believes(far), "{far} from {ack}, silent for {silent}");
            }
        }
    }
    let adopted = flow_at(0, 0);
    assert!(!state::believes_reset(&adopted, 0, 12345, clock), "its numbers are not known yet");
    adopted.seen[1].set(seen::ANY | seen::SYN);
    assert!(state::believes_reset(&adopted, 0, 12345, clock), "it answers a SYN");
}

#[test]
fn an_acknowledgement_is_written_when_it_has_moved_by_a_segment() {
    let flow = flow_at(0, 0);
    let at = |ack| {
        state::acknowledge(&flow, 1, ack);
        flow.ack[1].get()
    };
    assert_eq!(at(0), 1, "0 is a number like others");
    assert_eq!(at(2049), 1);
    assert_eq!(at(2050), 2050);
    assert_eq!(at(u32::MAX - 10), u32::MAX - 10, "a wild one is corrected by the next");
    assert_eq!(at(2050), 2050);
    assert_eq!(flow.ack[0].get(), 0, "each direction writes its own");
}
