//! The log of flows: a line when a flow is over, with what it carried both ways, and a
//! line for each denied packet, as far as the rate allows.
//!
//! The kernel program counts (see [`sg_common::account`]); what it counted lies in a
//! pinned table, so that a flow which outlives the daemon is logged whole by the next one.

mod queue;

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant, SystemTime},
};

use queue::Queue;
pub use queue::Written;
use serde::Serialize;
use sg_common::{
    account::Account,
    event::Event,
    flow::{Direction, FlowKey, seen},
    reason::{Reason, Verdict},
    watch::{Tell, stream},
};
use sg_ebpf::conntrack::Clock;

use super::{
    config::FlowLogConfig,
    lines::Lines,
    log,
    protocol::Seen,
    watch::{
        names::{Names, Time},
        seen as in_words,
        wish::WINDOWS,
    },
};
use crate::{
    dataplane::{
        events::Sums,
        flows::{self, Live},
        object::Maps,
    },
    model::protocol_name,
};

/// Lines that wait to be written; more are lost, and counted.
const WAITING: usize = 65_536;
/// How long the last lines may take to be written when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(10);

/// A flow that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Over {
    kind: &'static str,
    /// First packet, UTC.
    pub start: String,
    /// Last packet, UTC.
    pub end: String,
    /// The device.
    pub device: String,
    /// `ingress` or `egress`: who began it, as the instance sees it.
    pub direction: &'static str,
    /// A name, or a number.
    pub protocol: String,
    /// The instance's end.
    pub local: std::net::IpAddr,
    /// The other end.
    pub remote: std::net::IpAddr,
    /// Absent where there are no ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// As above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// Packets to the instance.
    pub packets_in: u64,
    /// Packets from the instance.
    pub packets_out: u64,
    /// Bytes to the instance, Ethernet headers included.
    pub bytes_in: u64,
    /// Bytes from the instance.
    pub bytes_out: u64,
    /// `accept`, or `cut` when a change ended it.
    pub verdict: &'static str,
    /// Why it was let in.
    pub reason: &'static str,
    /// By which rule, if by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How it ended: `closed`, `idle` or `cut`.
    pub ended: &'static str,
    /// Connections between the same ports in that time, if more than one: the line sums them up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

/// A denied packet.
#[derive(Clone, Debug, Serialize)]
struct Denied {
    kind: &'static str,
    #[serde(flatten)]
    seen: Seen,
}

/// What is not in the log.
#[derive(Clone, Debug, Serialize)]
struct LeftOut {
    kind: &'static str,
    time: String,
    /// Denied packets beyond the rate.
    denied: u64,
    /// Accepted packets of flows that there was no room to count.
    packets: u64,
}

/// Any line.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Over(Box<Over>),
    Denied(Box<Denied>),
    LeftOut(LeftOut),
}

/// The log.
pub struct FlowLog {
    queue: Queue<Line>,
    every: Duration,
    rate: u32,
    looked: Option<Instant>,
    /// What the kernel had left out at the last look.
    before: Sums,
    /// There was no room for a line since what waits was last written.
    full: bool,
    /// And that has been said.
    is_slow: bool,
}

/// The file, as the thread that writes it has it.
struct Sink {
    config: FlowLogConfig,
    /// Open, unless it could not be opened yet.
    lines: Option<Lines>,
    failing: bool,
}

impl Sink {
    fn append(&mut self, waiting: &[Line]) -> io::Result<()> {
        let lines = match &mut self.lines {
            Some(_) if waiting.is_empty() => return Ok(()),
            Some(lines) => lines,
            None => {
                if let Some(dir) = self.config.file.parent() {
                    std::fs::create_dir_all(dir)?;
                }
                let max = u64::from(self.config.max_size) << 20;
                self.lines.insert(Lines::open(&self.config.file, max, self.config.kept)?)
            }
        };
        lines.append(waiting, false)
    }

    /// Writes lines, and says once that it cannot, and that it can again.
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        // Nothing is no proof that something can be written.
        if lines.is_empty() && self.lines.is_some() {
            return Ok(());
        }
        let result = self.append(lines);
        let path = self.config.file.display();
        match (&result, std::mem::replace(&mut self.failing, result.is_err())) {
            (Ok(()), true) => log::warning!("the log of flows {path} can be written again"),
            (Err(e), false) => {
                log::error!("the log of flows {path} cannot be written: {e}; what happens meanwhile is not in it");
            }
            _ => {}
        }
        result
    }
}

/// How a flow ended; `None` while it goes on.
fn ended(live: Option<&Live>, clock: Clock) -> Option<&'static str> {
    let Some(live) = live else { return Some("idle") };
    if live.verdict == Verdict::Drop {
        return Some("cut");
    }
    let closing = live.seen[0] & live.seen[1] & seen::FIN != 0 || (live.seen[0] | live.seen[1]) & seen::RST != 0;
    live.is_expired(clock).then_some(if closing { "closed" } else { "idle" })
}

/// A line of an account.
fn over(
    (key, a): (&FlowKey, &Account),
    origin: Direction,
    ended: &'static str,
    names: &mut Names,
    time: &Time,
) -> Over {
    let protocol = key.protocol();
    let ports = matches!(protocol, 6 | 17);
    let rule = names.rule(a.rule).map(|r| r.name);
    let text = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
    Over {
        kind: "flow",
        start: text(time.past(a.start)),
        end: text(time.of(a.last)),
        device: names.device_of(key.zone),
        direction: origin.name(),
        protocol: protocol_name(Some(protocol)),
        local: key.local.into(),
        remote: key.remote.into(),
        local_port: ports.then_some(key.local_port),
        remote_port: ports.then_some(key.remote_port),
        packets_in: a.packets[0],
        packets_out: a.packets[1],
        bytes_in: a.bytes[0],
        bytes_out: a.bytes[1],
        verdict: if ended == "cut" { "cut" } else { "accept" },
        reason: Reason::from_u8(a.reason).map_or("unknown", Reason::name),
        rule: rule.or_else(|| (a.rule != 0).then(|| "(a rule that is no more)".into())),
        ended,
        connections: (a.connections > 1).then_some(a.connections),
    }
}

impl FlowLog {
    /// Nothing is written yet. A file that cannot be opened is tried again with each line:
    /// a host must not be without its rules for want of a log.
    pub fn new(config: &FlowLogConfig) -> Self {
        let mut sink = Sink { config: config.clone(), lines: None, failing: false };
        let (queue, begun) = Queue::start(WAITING, move |lines| sink.write(lines));
        if let Err(e) = begun {
            log::error!("no thread can be started to write the log of flows ({e}): nothing will be in it");
        }
        Self {
            queue,
            every: Duration::from_secs(config.every.into()),
            rate: config.denied,
            looked: None,
            before: Sums::default(),
            full: false,
            is_slow: false,
        }
    }

    /// Asks the kernel for denied packets.
    pub fn ask(&self, tell: &mut Tell) {
        tell.tokens[stream::LOG] = self.rate.div_ceil(WINDOWS);
        tell.reasons[stream::LOG] = [!0, 0];
    }

    /// A packet was denied.
    pub fn denied(&mut self, event: &Event, names: &mut Names, time: &Time) {
        let seen = in_words(event, names, time);
        self.full |= !self.queue.push(Line::Denied(Box::new(Denied { kind: "denied", seen })));
    }

    /// Whether it is time to look which flows are over.
    pub fn is_due(&self) -> bool {
        self.looked.is_none_or(|at| at.elapsed() >= self.every)
    }

    /// Looks which flows are over, and takes what they carried out of the kernel's table.
    /// `sums` is what was not told, or not counted, since the program was loaded.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn look(&mut self, maps: &Maps, names: &mut Names, time: &Time, sums: &Sums) -> io::Result<()> {
        // Still due, and all stays where it is: no walk before there is room.
        if !self.queue.has_room(1) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let mut accounts = Vec::new();
        maps.accounts.each(|key, _| accounts.push(*key))?;
        // After the accounts: a flow has its entry before its account.
        let mut live: HashMap<FlowKey, Live> = HashMap::with_capacity(accounts.len());
        if !accounts.is_empty() {
            for flow in flows::all(maps)? {
                let known = live.entry(flow.key).or_insert(flow);
                if flow.confirmed {
                    *known = flow;
                }
            }
        }
        let clock = Clock { now: time.jiffies, hz: time.hz };
        for key in accounts {
            if !self.queue.has_room(1) {
                // It stays where it is, and so do all others, until there is room.
                self.looked = None;
                break;
            }
            let Some(how) = ended(live.get(&key), clock) else { continue };
            // What comes later is another flow's.
            if let Some(account) = maps.accounts.take(&key)? {
                // Of one that is older than its account, the table knows better who began it.
                let origin = live.get(&key).map_or(Direction::from_u8(account.origin), |l| l.origin);
                self.queue.push(Line::Over(Box::new(over((&key, &account), origin, how, names, time))));
            }
        }
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let denied = since(sums.left_out[stream::LOG], self.before.left_out[stream::LOG]);
        let flows = since(sums.unaccounted, self.before.unaccounted);
        // What could not be said is said with the next.
        if denied + flows == 0 {
            self.before = *sums;
        } else if self.queue.has_room(1) {
            self.before = *sums;
            let time = humantime::format_rfc3339_millis(time.wall).to_string();
            self.queue.push(Line::LeftOut(LeftOut { kind: "left_out", time, denied, packets: flows }));
        }
        Ok(())
    }

    /// Has what waits written, soon; what has become of lines since the last time.
    pub fn flush(&mut self) -> Written {
        let done = self.queue.flush();
        // What is lost while the file cannot be written is said by who writes it.
        let full = std::mem::take(&mut self.full);
        if full && !self.is_slow {
            log::error!("the log of flows is written too slowly: what does not fit among {WAITING} lines is not in it");
        }
        self.is_slow = full;
        done
    }

    /// Has all that waits written, as the last thing.
    pub fn close(&mut self) -> Written {
        let done = self.queue.close(FAREWELL);
        if done.lost > 0 {
            log::warning!("{} lines of the log of flows were not written", done.lost);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::TempDir;
    use sg_common::addr::Addr;
    use std::fs;

    fn live(verdict: Verdict, seen: [u8; 2], last: u32) -> Live {
        let local = Addr::v4([10, 0, 0, 5]);
        Live {
            key: FlowKey { zone: 1, vlan_proto: 6, local, remote: local, local_port: 1, remote_port: 2 },
            origin: Direction::Inbound,
            verdict,
            last: [last; 2],
            rule: 1,
            seen,
            timeout: 3,
            confirmed: true,
        }
    }

    #[test]
    fn a_flow_ends_by_its_own_close_by_silence_or_by_a_change() {
        let clock = Clock { now: 10_000, hz: 100 };
        assert_eq!(ended(None, clock), Some("idle"));
        assert_eq!(ended(Some(&live(Verdict::Accept, [1, 1], 9_900)), clock), None);
        assert_eq!(ended(Some(&live(Verdict::Accept, [1, 1], 9_000)), clock), Some("idle"));
        assert_eq!(ended(Some(&live(Verdict::Accept, [seen::FIN; 2], 9_000)), clock), Some("closed"));
        assert_eq!(ended(Some(&live(Verdict::Accept, [seen::FIN, 0], 9_000)), clock), Some("idle"));
        assert_eq!(ended(Some(&live(Verdict::Accept, [seen::RST, 0], 9_000)), clock), Some("closed"));
        assert_eq!(ended(Some(&live(Verdict::Accept, [seen::FIN; 2], 9_900)), clock), None, "its last packets");
        assert_eq!(ended(Some(&live(Verdict::Drop, [1, 1], 9_999)), clock), Some("cut"));
    }

    #[test]
    fn the_file_is_put_aside_as_it_is_configured() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("made/flows.jsonl");
        let config = FlowLogConfig { file: file.clone(), max_size: 3, kept: 1, ..FlowLogConfig::default() };
        let mut sink = Sink { config, lines: None, failing: false };
        let length = |path: &str| fs::metadata(dir.path().join("made").join(path)).map(|m| m.len()).ok();
        // Two lines in a file that has so many bytes already.
        let mut write = |size: u64| {
            sink.append(&[]).unwrap();
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(size).unwrap();
            let line = || Line::LeftOut(LeftOut { kind: "left_out", time: "now".into(), denied: 1, packets: 2 });
            sink.append(&[line(), line()]).unwrap();
        };
        // Mebibytes.
        write(3 << 20);
        assert!(length("flows.jsonl") > Some(3 << 20) && length("flows.jsonl.1").is_none());
        for size in [(3 << 20) + 1, (3 << 20) + 2] {
            write(size);
            assert_eq!(length("flows.jsonl.1"), Some(size));
            assert!(length("flows.jsonl").is_some_and(|new| new < 1000) && length("flows.jsonl.2").is_none());
        }
    }
}
