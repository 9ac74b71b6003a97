//! The real kernel program on packets of ours: a map set of its own, nothing
//! attached, nothing pinned. The program runs as if on the loopback device of
//! this network namespace, whose index is always 1.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::RingBuf;
use sg_common::{
    ABI_VERSION,
    event::{Counter, Event},
    flow::{FlowKey, FlowKey4},
    generation::{Config, Generation, OwnKey, events, flags},
    limits, maps,
    reason::{Reason, Verdict},
    watch::Tell,
};
use thiserror::Error;

use super::{
    object::{self, Object, ObjectError},
    policies::{self, PolicyError},
    shapes::Sizes,
    sys,
};
use crate::{
    compiler::{CompileError, Tables, compile},
    effective::{Origin, PolicyKey},
    model::{Direction, Instance, Model, Side},
    packet::first_packet,
    reference::{FlowQuery, Outcome},
};

/// Index of a loopback device.
const LOOPBACK: u32 = 1;
/// The generation record the probe uses.
const RECORD: u32 = 4;
/// Hardware address of whoever sends.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Why the kernel could not be asked.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The program could not be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A policy does not fit.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A policy could not be written.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A map or a run failed.
    #[error("cannot {what}: {error}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
    /// A run left no event.
    #[error("the program judged a packet without saying why")]
    Silent,
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> ProbeError {
    move |error| ProbeError::Kernel { what, error }
}

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `sg_xdp`: what the device receives.
    Xdp,
    /// `sg_tc_in`: what the device receives.
    TcIn,
    /// `sg_tc_out`: what the device sends.
    TcOut,
}

/// The loaded program with its tables.
pub struct Probe {
    object: Object,
    ring: RingBuf<aya::maps::MapData>,
    hz: u32,
    zone: u32,
}

/// A generation record with every default.
pub fn record() -> Generation {
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
        tcp_established: limits::TIMEOUT_TCP,
        udp: limits::TIMEOUT_UDP,
        tcp_closed: limits::TIMEOUT_TCP_CLOSED as u8,
        on_change: 0,
        mac: [0; 6],
        policy_class: 0,
    }
}

impl Probe {
    /// Loads the program with maps of its own.
    ///
    /// # Errors
    /// Not root, no program, a kernel that lacks something.
    pub fn load() -> Result<Self, ProbeError> {
        Self::load_sized(Sizes { flows: limits::MAX_FLOWS, churn: limits::MAX_CHURN })
    }

    /// The same with conntrack tables of these sizes.
    ///
    /// # Errors
    /// As [`Probe::load`].
    pub fn load_sized(sizes: Sizes) -> Result<Self, ProbeError> {
        let mut object = object::load_sized(&object::bytes()?, None, sizes)?;
        let missing = || ObjectError::Missing(format!("map {}", maps::EVENTS));
        let ring = object.ebpf.take_map(maps::EVENTS).ok_or_else(missing)?;
        let ring = RingBuf::try_from(ring).map_err(|_| missing())?;
        let hz = object.ticks_per_second().map_err(io("read the kernel's clock"))?;
        let probe = Self { object, ring, hz, zone: 0 };
        probe.clock(0)?;
        probe.object.maps.ifaces.update(&LOOPBACK, &u64::from(RECORD)).map_err(io("bind the probe"))?;
        Ok(probe)
    }

    /// Instructions that the verifier walked, by program.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn verified_instructions(&mut self) -> Result<Vec<(&'static str, u32)>, ProbeError> {
        let unknown = |_| ProbeError::Silent;
        let mut counts =
            vec![(maps::PROG_XDP, self.object.xdp()?.info().map_err(unknown)?.verified_instruction_count())];
        for name in [maps::PROG_TC_IN, maps::PROG_TC_OUT] {
            counts.push((name, self.object.tc(name)?.info().map_err(unknown)?.verified_instruction_count()));
        }
        Ok(counts.into_iter().map(|(name, n)| (name, n.unwrap_or(0))).collect())
    }

    /// Adds jiffies to the program's clock.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clock(&self, offset: u32) -> Result<(), ProbeError> {
        let config = Config { abi: ABI_VERSION, hz: self.hz, time_offset: offset, events: events::ALL, filter: 0 };
        self.object.maps.config.update(&0, &config).map_err(io("write the configuration"))
    }

    /// The program's clock, without the offset.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn now(&mut self) -> Result<u32, ProbeError> {
        self.object.jiffies().map_err(io("read the clock"))
    }

    /// Judges without events.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn quiet(&self) -> Result<(), ProbeError> {
        let config = Config { abi: ABI_VERSION, hz: self.hz, time_offset: 0, events: events::OFF, filter: 0 };
        self.object.maps.config.update(&0, &config).map_err(io("write the configuration"))
    }

    /// Tells what is asked for, as under the daemon.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn tell(&self, tell: &Tell) -> Result<(), ProbeError> {
        let config = Config { abi: ABI_VERSION, hz: self.hz, time_offset: 0, events: events::DECISIONS, filter: 0 };
        super::events::ask(&self.object.maps, tell).map_err(io("ask for events"))?;
        self.object.maps.config.update(&0, &config).map_err(io("write the configuration"))
    }

    /// Events that have come, taken out.
    pub fn events(&mut self) -> usize {
        std::iter::from_fn(|| self.ring.next().map(drop)).count()
    }

    /// A program, to be run by others.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(&mut self, entry: Entry) -> Result<BorrowedFd<'_>, ProbeError> {
        let fd = match entry {
            Entry::Xdp => self.object.xdp()?.fd(),
            Entry::TcIn => self.object.tc(maps::PROG_TC_IN)?.fd(),
            Entry::TcOut => self.object.tc(maps::PROG_TC_OUT)?.fd(),
        };
        Ok(fd.map_err(|_| ProbeError::Silent)?.as_fd())
    }

    /// The maps.
    pub fn maps(&self) -> &object::Maps {
        &self.object.maps
    }

    /// The maps once more, for another thread.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn maps_again(&self) -> Result<object::Maps, ProbeError> {
        Ok(object::Maps::open(&self.object.ebpf)?)
    }

    /// Jiffies a second.
    pub fn ticks_per_second(&self) -> u32 {
        self.hz
    }

    /// Writes a policy under an index; returns its maps, to change it by.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn install(&self, index: u32, tables: &Tables) -> Result<policies::Held, ProbeError> {
        Ok(policies::install(&self.object.maps, index, tables)?)
    }

    /// Puts a generation in force.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enforce(&self, generation: &Generation) -> Result<(), ProbeError> {
        self.object.maps.generations.update(&RECORD, generation).map_err(io("write the generation"))
    }

    /// Declares an address of a guest.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn own(&self, zone: u32, addr: std::net::IpAddr) -> Result<(), ProbeError> {
        self.object.maps.own.update(&OwnKey { zone, addr: addr.into() }, &1).map_err(io("write an own address"))
    }

    /// Runs a program on a frame: its verdict by return code, and its event.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&mut self, entry: Entry, frame: &[u8]) -> Result<(Verdict, Event), ProbeError> {
        let passes = self.passes(entry, frame)?;
        let item = self.ring.next().ok_or(ProbeError::Silent)?;
        if item.len() < size_of::<Event>() {
            return Err(ProbeError::Silent);
        }
        // SAFETY: at least as long as an event, of which any bits are one.
        let event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
        Ok((if passes { Verdict::Accept } else { Verdict::Drop }, event))
    }

    /// Runs a program on a frame, and does not ask for its event: whether it passes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn passes(&mut self, entry: Entry, frame: &[u8]) -> Result<bool, ProbeError> {
        let (code, pass) = match entry {
            Entry::Xdp => (self.call_xdp(frame)?, 2),
            Entry::TcIn => (self.call_tc(maps::PROG_TC_IN, frame)?, u32::MAX),
            Entry::TcOut => (self.call_tc(maps::PROG_TC_OUT, frame)?, u32::MAX),
        };
        Ok(code == pass)
    }

    fn call_xdp(&mut self, frame: &[u8]) -> Result<u32, ProbeError> {
        let program = self.object.xdp()?.fd().map_err(|_| ProbeError::Silent)?;
        sys::test_run(program.as_fd(), frame, &[]).map_err(io("run the program"))
    }

    fn call_tc(&mut self, name: &str, frame: &[u8]) -> Result<u32, ProbeError> {
        let program = self.object.tc(name)?.fd().map_err(|_| ProbeError::Silent)?;
        sys::test_run(program.as_fd(), frame, &[]).map_err(io("run the program"))
    }

    /// Forgets the flow of an event, so that the next packet is a first one again.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget(&self, zone: u32, event: &Event) -> Result<(), ProbeError> {
        let key = FlowKey {
            zone,
            vlan_proto: event.vlan_proto,
            local: event.local,
            remote: event.remote,
            local_port: event.local_port,
            remote_port: event.remote_port,
        };
        let forget = io("forget a flow");
        let maps = &self.object.maps;
        let result = if event.local.is_v4() && event.remote.is_v4() {
            let short: FlowKey4 = key.to_v4();
            maps.churn4.iter().chain([&maps.flows4]).try_for_each(|m| m.delete(&short).map(drop))
        } else {
            maps.churn6.iter().chain([&maps.flows6]).try_for_each(|m| m.delete(&key).map(drop))
        };
        result.map_err(forget)
    }

    /// Packets counted under a reason and a verdict.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reason_count(
        &self,
        slot: u32,
        direction: Direction,
        reason: Reason,
        verdict: Verdict,
    ) -> Result<u64, ProbeError> {
        let index = maps::reason_index(slot, direction as u8, reason as u8, verdict as u8);
        self.sum(self.object.maps.reasons.get_per_cpu(&index, super::clock::possible_cpus()))
    }

    /// Packets counted under a rule.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rule_count(&self, counter: u32) -> Result<u64, ProbeError> {
        self.sum(self.object.maps.rules.get_per_cpu(&counter, super::clock::possible_cpus()))
    }

    fn sum(&self, counters: std::io::Result<Vec<Counter>>) -> Result<u64, ProbeError> {
        Ok(counters.map_err(io("read a counter"))?.iter().map(|c| c.packets).sum())
    }
}

/// The generation of an instance, as the daemon would write it.
pub fn generation_of(model: &Model, instance: &Instance, zone: u32) -> Generation {
    let interface = &model.interfaces[instance.interface];
    let mut generation = record();
    generation.zone = zone;
    generation.tcp_established = interface.tcp_established;
    generation.tcp_closed = interface.tcp_closed;
    generation.udp = interface.udp;
    if interface.side == Side::Guest {
        generation.flags |= flags::GUEST;
    } else {
        generation.flags |= flags::ETHERTYPE_PASS;
    }
    if interface.source_check {
        generation.flags |= flags::SOURCE_CHECK;
    }
    generation
}

/// Which program sees a packet of that direction.
pub fn entry_of(side: Side, direction: Direction, xdp: bool) -> Entry {
    match (side, direction) {
        (Side::Host, Direction::Inbound) if xdp => Entry::Xdp,
        (Side::Host, Direction::Inbound) | (Side::Guest, Direction::Outbound) => Entry::TcIn,
        (Side::Host, Direction::Outbound) | (Side::Guest, Direction::Inbound) => Entry::TcOut,
    }
}

/// Judges flows by the kernel program, each alone against an empty conntrack.
///
/// # Errors
/// What could not be loaded, compiled, written or run.
pub fn judge(
    model: &Model,
    instances: &[Instance],
    flows: &[(usize, FlowQuery)],
    xdp: bool,
) -> Result<Vec<Outcome>, ProbeError> {
    Probe::load()?.judge(model, instances, flows, xdp)
}

impl Probe {
    /// As [`judge`], with a program that is loaded already.
    ///
    /// # Errors
    /// What could not be compiled, written or run.
    pub fn judge(
        &mut self,
        model: &Model,
        instances: &[Instance],
        flows: &[(usize, FlowQuery)],
        xdp: bool,
    ) -> Result<Vec<Outcome>, ProbeError> {
        let mut outcomes = vec![None; flows.len()];
        let mut order: Vec<usize> = (0..flows.len()).collect();
        order.sort_by_key(|&i| flows[i].0);
        let mut current = usize::MAX;
        let mut origins: Vec<Origin> = Vec::new();
        for i in order {
            let (instance, query) = &flows[i];
            if *instance != current {
                current = *instance;
                origins = self.prepare(model, instances, current)?;
            }
            let side = model.interfaces[instances[*instance].interface].side;
            let frame = first_packet(query, SENDER);
            let (verdict, event) = self.run(entry_of(side, query.direction, xdp), &frame)?;
            self.forget(self.zone, &event)?;
            outcomes[i] = Some(outcome(verdict, &event, &origins)?);
        }
        outcomes.into_iter().map(|o| o.ok_or(ProbeError::Silent)).collect()
    }

    /// Puts an instance's policy in force, in a zone that nothing used before;
    /// returns what its counters stand for.
    ///
    /// # Errors
    /// What could not be compiled or written.
    pub fn prepare(&mut self, model: &Model, instances: &[Instance], index: usize) -> Result<Vec<Origin>, ProbeError> {
        self.zone += 1;
        let instance = &instances[index];
        let key = PolicyKey::of(model, instance);
        let mut origins = Vec::new();
        let tables = compile(model, instances, &key, |origin| {
            origins.push(origin);
            origins.len() as u32
        })?;
        self.install(0, &tables)?;
        for &addr in &instance.addresses {
            self.own(self.zone, addr)?;
        }
        let mut generation = generation_of(model, instance, self.zone);
        generation.policy_class = tables.size_class() as u32;
        self.enforce(&generation)?;
        Ok(origins)
    }

    /// The zone of the instance that was prepared last.
    pub fn zone(&self) -> u32 {
        self.zone
    }
}

/// What an event says, by the origins that the counters stand for.
///
/// # Errors
/// [`ProbeError::Silent`] for a number that is no reason.
pub fn outcome(verdict: Verdict, event: &Event, origins: &[Origin]) -> Result<Outcome, ProbeError> {
    let reason = Reason::from_u8(event.reason).ok_or(ProbeError::Silent)?;
    let origin = event.rule.checked_sub(1).and_then(|i| origins.get(i as usize));
    let (group, rule) = match origin {
        Some(Origin::Rule(g, r)) => (Some(*g), Some(*r)),
        Some(Origin::IntraGroup(g)) => (Some(*g), None),
        _ => (None, None),
    };
    Ok(Outcome { verdict, reason, group, rule })
}
