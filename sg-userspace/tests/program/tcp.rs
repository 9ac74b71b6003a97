//! TCP by the book, through the kernel program, by a clock of ours: which packets
//! pass as what, and how long the flow may be idle after each.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sg_common::reason::{
    Reason::{self, *},
    Verdict::{self, Accept, Drop},
};
use sg_userspace::dataplane::flows;

use super::flows::{Bench, CLOSED, POLICY};
use crate::support::frames::*;

/// Seconds that a flow may be idle: half open, established, closed.
const HALF_OPEN: u32 = 10;
const ESTABLISHED: u32 = 910;
const CLOSING: u32 = 3;

/// First sequence numbers, far from zero.
const CLIENT: u32 = 0x1234_5678;
const SERVER: u32 = 0xdead_beef;

/// Loading the program takes a second; each test has a zone of its own in it.
static LOADED: Mutex<Option<Bench>> = Mutex::new(None);

/// The loaded program, while a test has it.
struct Lent(Option<Bench>, MutexGuard<'static, Option<Bench>>);

impl Deref for Lent {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        self.0.as_ref().unwrap()
    }
}
impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Bench {
        self.0.as_mut().unwrap()
    }
}
impl std::ops::Drop for Lent {
    fn drop(&mut self) {
        *self.1 = self.0.take();
    }
}

/// A client outside, a server that the interface protects.
struct Tcp {
    bench: Lent,
    /// Numbers that each side sends next.
    client: u32,
    server: u32,
}

impl Tcp {
    fn new() -> Option<Self> {
        Self::of(POLICY)
    }
    fn of(policy: &str) -> Option<Self> {
        // A test that failed leaves it as good as it was.
        let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let bench = match slot.take() {
            Some(mut bench) => {
                bench.begin(policy);
                bench
            }
            None => Bench::of(policy)?,
        };
        Some(Self { bench: Lent(Some(bench), slot), client: CLIENT, server: SERVER })
    }
    fn frame(from_client: bool, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        let ack = if flags & ACK == 0 { 0 } else { ack };
        if from_client {
            v4(R4, L4, 6).frame(&tcp_at(40_000, 80, flags, seq, ack))
        } else {
            v4(L4, R4, 6).frame(&tcp_at(80, 40_000, flags, seq, ack))
        }
    }
    /// Sends a segment with any number.
    #[track_caller]
    fn raw(&mut self, from_client: bool, flags: u8, seq: u32, expected: (Verdict, Reason)) {
        let ack = if from_client { self.server } else { self.client };
        let frame = Self::frame(from_client, flags, seq, ack);
        if from_client {
            self.bench.inbound(&frame, expected.0, expected.1);
        } else {
            self.bench.outbound(&frame, expected.0, expected.1);
        }
    }
    /// The client sends what is next.
    #[track_caller]
    fn client(&mut self, flags: u8, expected: (Verdict, Reason)) {
        self.raw(true, flags, self.client, expected);
        self.client = self.client.wrapping_add(u32::from(flags & (SYN | FIN) != 0));
    }
    /// The server sends what is next.
    #[track_caller]
    fn server(&mut self, flags: u8, expected: (Verdict, Reason)) {
        self.raw(false, flags, self.server, expected);
        self.server = self.server.wrapping_add(u32::from(flags & (SYN | FIN) != 0));
    }
    #[track_caller]
    fn handshake(&mut self) {
        self.client(SYN, (Accept, Rule));
        self.server(SYN | ACK, OLD);
        self.client(ACK, OLD);
        self.lives(ESTABLISHED);
    }
    /// Checks the idle seconds that the table grants the flow.
    #[track_caller]
    fn lives(&self, seconds: u32) {
        assert_eq!(self.flow().timeout, seconds);
    }
    /// The only flow there is.
    #[track_caller]
    fn flow(&self) -> flows::Live {
        let zone = self.bench.probe.zone();
        let mut all = flows::all(self.bench.probe.maps()).unwrap();
        all.retain(|f| f.key.zone == zone);
        assert_eq!(all.len(), 1);
        all[0]
    }
    /// Lets as many seconds pass as the flow may be idle; and once more, one too many.
    #[track_caller]
    fn expires_after(&mut self, seconds: u32) {
        self.bench.wait(seconds - 1);
        self.server(ACK, OLD);
        self.lives(seconds);
        self.bench.wait(seconds + 1);
        self.client(ACK, (Accept, Rule));
    }
}

const OLD: (Verdict, Reason) = (Accept, Established);

#[test]
fn syn_and_syn_ack_sent_again_confirm_nothing() {
    let Some(mut t) = Tcp::new() else { return };
    t.raw(true, SYN, CLIENT, (Accept, Rule));
    for _ in 0..3 {
        t.bench.wait(8);
        t.raw(true, SYN, CLIENT, OLD);
        t.lives(HALF_OPEN);
    }
    for _ in 0..3 {
        t.bench.wait(8);
        t.raw(false, SYN | ACK, SERVER, OLD);
        t.lives(HALF_OPEN);
    }
    t.client = CLIENT + 1;
    t.client(ACK, OLD);
    t.lives(ESTABLISHED);
    // The server has not seen it: it sends its SYN once more, in vain.
    t.raw(false, SYN | ACK, SERVER, OLD);
    t.lives(ESTABLISHED);
    t.expires_after(ESTABLISHED);
}

#[test]
fn both_sides_open_at_once() {
    let Some(mut t) = Tcp::new() else { return };
    // Each SYN crosses the other's, and each is judged by the rules of its direction.
    t.raw(false, SYN, SERVER, (Accept, Default));
    t.raw(true, SYN, CLIENT, (Accept, Rule));
    (t.client, t.server) = (CLIENT + 1, SERVER + 1);
    t.raw(false, SYN | ACK, SERVER, OLD);
    t.raw(true, SYN | ACK, CLIENT, OLD);
    t.lives(HALF_OPEN);
    t.server(ACK, OLD);
    t.lives(ESTABLISHED);
    t.client(ACK, OLD);
    t.expires_after(ESTABLISHED);
}

#[test]
fn a_syn_that_crosses_ours_needs_a_rule() {
    let Some(mut t) = Tcp::new() else { return };
    t.bench.change(CLOSED, 0);
    t.raw(false, SYN, SERVER, (Accept, Default));
    t.raw(true, SYN, CLIENT, (Drop, Default));
    t.raw(true, SYN | ACK, CLIENT, OLD);
}

#[test]
fn half_closed_is_not_closed() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    t.client(FIN | ACK, OLD);
    t.lives(ESTABLISHED);
    // The server goes on for an hour, with long pauses.
    for _ in 0..4 {
        t.bench.wait(900);
        t.server(ACK | 8, OLD);
        t.client(ACK, OLD);
        t.lives(ESTABLISHED);
    }
    t.expires_after(ESTABLISHED);
}

#[test]
fn closed_from_both_sides() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    t.server(FIN | ACK, OLD);
    // Sent again, it is no second one.
    t.raw(false, FIN | ACK, t.server - 1, OLD);
    t.lives(ESTABLISHED);
    t.client(FIN | ACK, OLD);
    t.lives(CLOSING);
    t.bench.wait(2);
    // The last acknowledgement was lost; the FIN comes again, and it, too.
    t.raw(true, FIN | ACK, t.client - 1, OLD);
    t.lives(CLOSING);
    t.bench.wait(2);
    t.server(ACK, OLD);
    t.expires_after(CLOSING);
}

#[test]
fn a_reset_in_its_place_ends_the_flow() {
    for from_client in [true, false] {
        let Some(mut t) = Tcp::new() else { return };
        t.handshake();
        t.bench.wait(30);
        let seq = if from_client { t.client } else { t.server };
        t.raw(from_client, RST, seq, OLD);
        t.lives(CLOSING);
        t.bench.wait(CLOSING + 1);
        t.client(ACK, (Accept, Rule));
    }
}

#[test]
fn a_reset_elsewhere_changes_nothing() {
    for from_client in [true, false] {
        let Some(mut t) = Tcp::new() else { return };
        t.handshake();
        t.bench.wait(30);
        let seq = if from_client { t.client } else { t.server };
        for offset in [1 << 31, 1 << 20, 1 << 24, 5000, 5000u32.wrapping_neg(), (1u32 << 20).wrapping_neg()] {
            t.raw(from_client, RST, seq.wrapping_add(offset), OLD);
            t.raw(from_client, RST | ACK, seq.wrapping_add(offset), OLD);
            t.lives(ESTABLISHED);
        }
        // It does not keep the flow either.
        t.bench.wait(870);
        t.raw(from_client, RST, seq ^ 1 << 31, OLD);
        t.bench.wait(60);
        t.server(ACK, (Accept, Default));
    }
}

#[test]
fn a_busy_sender_may_reset_ahead_of_what_is_acknowledged() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    t.client(ACK | 8, OLD);
    // 300 KB of it are still on their way.
    t.raw(true, RST | ACK, t.client + 300_000, OLD);
    t.lives(CLOSING);
}

/// Resets over all of the numbers, by somebody who knows addresses and ports but not
/// where the connection stands.
#[test]
fn a_blind_flood_of_resets() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    let flood = |t: &mut Tcp| {
        for i in 0..0x1_0000u32 {
            t.raw(true, RST, i << 16, OLD);
        }
    };
    // A connection that is idle, such as a shell: it outlives its closing timeout.
    t.bench.wait(2);
    flood(&mut t);
    t.lives(ESTABLISHED);
    t.bench.wait(880);
    t.server(ACK | 8, OLD);
    // One that is busy: a reset may fall where data is on its way, but whoever sends
    // on after it has not believed it.
    t.client(ACK | 8, OLD);
    flood(&mut t);
    t.server(ACK, OLD);
    t.lives(ESTABLISHED);
    t.bench.wait(900);
    t.client(ACK | 8, OLD);
}

#[test]
fn a_challenged_reset_is_taken_back() {
    for challenger in [true, false] {
        let Some(mut t) = Tcp::new() else { return };
        t.handshake();
        t.raw(true, RST, t.client, OLD);
        t.lives(CLOSING);
        // By the receiver's challenge (RFC 5961), or by the segment of the true sender.
        t.raw(challenger, ACK, if challenger { t.client } else { t.server }, OLD);
        t.lives(ESTABLISHED);
    }
}

#[test]
fn a_refused_connection() {
    let Some(mut t) = Tcp::new() else { return };
    t.raw(false, SYN, SERVER, (Accept, Default));
    t.raw(true, RST | ACK, 0, OLD);
    t.lives(CLOSING);
}

#[test]
fn a_syn_on_a_closed_flow_begins_a_new_one() {
    for from_client in [true, false] {
        let Some(mut t) = Tcp::new() else { return };
        t.handshake();
        t.client(FIN | ACK, OLD);
        t.server(FIN | ACK, OLD);
        t.client(ACK, OLD);
        t.lives(CLOSING);
        // By the rules of its direction.
        let judged = (Accept, if from_client { Rule } else { Default });
        t.raw(from_client, SYN, 7, judged);
        t.lives(HALF_OPEN);
        let (a, b) = if from_client { (&mut t.client, &mut t.server) } else { (&mut t.server, &mut t.client) };
        (*a, *b) = (8, 0x7000_0001);
        t.raw(!from_client, SYN | ACK, 0x7000_0000, OLD);
        t.raw(from_client, ACK, 8, OLD);
        t.lives(ESTABLISHED);
        // Numbers of the old connection reset nothing.
        t.bench.wait(5);
        t.raw(true, RST, CLIENT + 2, OLD);
        t.lives(ESTABLISHED);
    }
}

#[test]
fn a_syn_on_a_closed_flow_that_no_rule_admits_is_dropped() {
    let Some(mut t) = Tcp::new() else { return };
    t.bench.change(CLOSED, 0);
    t.raw(false, SYN, SERVER, (Accept, Default));
    t.server += 1;
    t.client(SYN | ACK, OLD);
    t.server(ACK, OLD);
    t.server(FIN | ACK, OLD);
    t.client(FIN | ACK, OLD);
    t.raw(true, SYN, 7, (Drop, Default));
    t.lives(CLOSING);
}

/// The end of a connection was not seen, and its ports are used again.
#[test]
fn a_tuple_in_use_begins_again() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    t.client(FIN | ACK, OLD);
    t.bench.wait(100);
    (t.client, t.server) = (77, 0x7000_0000);
    t.client(SYN, OLD);
    t.server(SYN | ACK, OLD);
    t.client(ACK, OLD);
    // The FIN before the SYN is not one of this connection.
    t.server(FIN | ACK, OLD);
    t.lives(ESTABLISHED);
    t.bench.wait(5);
    t.raw(true, RST, CLIENT, OLD);
    t.lives(ESTABLISHED);
    t.client(FIN | ACK, OLD);
    t.lives(CLOSING);
}

#[test]
fn a_connection_picked_up_in_its_midst() {
    let Some(mut t) = Tcp::new() else { return };
    t.client(ACK | 8, (Accept, Rule));
    t.lives(HALF_OPEN);
    t.server(ACK | 8, OLD);
    t.client(ACK, OLD);
    t.lives(ESTABLISHED);
    t.bench.wait(5);
    t.raw(true, RST, t.client ^ 1 << 30, OLD);
    t.lives(ESTABLISHED);
    t.raw(true, RST, t.client, OLD);
    t.lives(CLOSING);
}

/// Gigabytes: the place of a reset moves with what is acknowledged, also past the end
/// of the numbers.
#[test]
fn a_long_transfer() {
    let Some(mut t) = Tcp::new() else { return };
    t.handshake();
    for _ in 0..3000 {
        t.client = t.client.wrapping_add(2_000_000);
        t.raw(true, ACK | 8, t.client.wrapping_sub(1400), OLD);
        t.server(ACK, OLD);
    }
    t.bench.wait(5);
    t.raw(true, RST, CLIENT + 1, OLD);
    t.lives(ESTABLISHED);
    t.raw(true, RST, t.client, OLD);
    t.lives(CLOSING);
}

#[test]
fn timeouts_are_the_interfaces_own() {
    let policy = POLICY.trim_end().trim_end_matches('}').to_owned()
        + ", connection_tracking_configuration: {tcp_established_timeout: 60, tcp_closed_and_time_wait_timeout: 15}}\n";
    let Some(mut t) = Tcp::of(&policy) else { return };
    t.client(SYN, (Accept, Rule));
    t.lives(HALF_OPEN);
    t.server(SYN | ACK, OLD);
    t.client(ACK, OLD);
    t.lives(60);
    t.client(FIN | ACK, OLD);
    t.server(FIN | ACK, OLD);
    t.expires_after(15);
}

/// Between the daemon's look at a flow that is long dead and its deletion, the client
/// comes back on the same ports: the new flow stays.
#[test]
fn a_flow_that_comes_to_life_while_it_is_swept() {
    let Some(mut t) = Tcp::new() else { return };
    t.client(SYN, (Accept, Rule));
    t.bench.wait(60);
    let maps = t.bench.probe.maps_again().unwrap();
    let hz = t.bench.probe.ticks_per_second();
    let last = t.flow().last[0];
    let now = last.wrapping_add(60 * hz);
    let zone = t.bench.probe.zone();
    let (mut looks, mut others) = (0, 0);
    let swept = flows::sweep_watched(&maps, now, hz, |key| {
        if key.zone == zone {
            looks += 1;
            t.raw(true, SYN, 7, (Accept, Rule));
        } else {
            others += 1;
        }
    });
    assert_eq!((swept.unwrap(), looks), (others, 1));
    t.client = 8;
    t.server(SYN | ACK, OLD);
    t.client(ACK, OLD);
    t.lives(ESTABLISHED);
    // Without a packet in between it goes.
    t.bench.wait(2000);
    assert!(flows::sweep(&maps, now.wrapping_add(2000 * hz), hz).unwrap() >= 1);
    assert!(!flows::all(&maps).unwrap().iter().any(|f| f.key.zone == zone));
}

/// The daemon was stopped between reading the clock and reading the tables.
#[test]
fn a_daemon_that_was_stopped_sweeps_nothing_alive() {
    let Some(mut t) = Tcp::new() else { return };
    let maps = t.bench.probe.maps_again().unwrap();
    let hz = t.bench.probe.ticks_per_second();
    t.handshake();
    let read = t.flow().last[0];
    for _ in 0..20 {
        t.bench.wait(500);
        t.server(ACK, OLD);
        t.client(ACK, OLD);
        flows::sweep(&maps, read, hz).unwrap();
        t.lives(ESTABLISHED);
    }
    t.client(ACK, OLD);
}
