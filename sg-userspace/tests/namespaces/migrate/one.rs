//! What the daemon of ABI 1 left in force: its program, its maps, its layouts.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap},
    programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode, links::FdLink, tc, tc::TcAttachOptions},
};
use sg_common::{
    event::Counter,
    flow::FlowKey4,
    maps::reason_index,
    reason::{Reason, Verdict},
};
use sg_userspace::{
    dataplane::{clock, sys},
    testbed::Daemon,
};

use super::{map, set};
use crate::namespaces::world::{Way, World, tc_place};

pub const ZONE: u32 = 7;
pub const SLOT: u32 = 3;
pub const EPOCH: u32 = 41;
/// One of its slot's four records.
const RECORD: u32 = SLOT * 4 + 1;
/// A policy that is not there: what has no flow is dropped.
const POLICY: u32 = 500;

const MAPS: [&str; 17] = [
    "SG_IFACES",
    "SG_GENERATIONS",
    "SG_CONFIG",
    "SG_PREFIXES",
    "SG_HOSTS",
    "SG_OWN",
    "SG_POLICY_S",
    "SG_POLICY_M",
    "SG_POLICY_L",
    "SG_FLOWS4",
    "SG_FLOWS6",
    "SG_CHURN_IN4",
    "SG_CHURN_IN6",
    "SG_CHURN_OUT4",
    "SG_CHURN_OUT6",
    "SG_FRAGMENTS",
    "SG_EVENTS",
];
const COUNTERS: [&str; 2] = ["SG_REASONS", "SG_RULES"];

fn v4(ip: IpAddr) -> Option<[u8; 4]> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Some(ip.octets()),
        IpAddr::V6(_) => None,
    }
}

/// The key of an IPv4 connection, local end first.
pub fn key4(zone: u32, local: SocketAddr, remote: SocketAddr) -> Option<FlowKey4> {
    let (local_port, remote_port) = (local.port(), remote.port());
    let (local, remote) = (v4(local.ip())?, v4(remote.ip())?);
    Some(FlowKey4 { zone, vlan_proto: 6, local, remote, local_port, remote_port })
}

fn words4(key: &FlowKey4) -> [u32; 5] {
    let ports = [key.local_port.to_ne_bytes(), key.remote_port.to_ne_bytes()].concat();
    let ports = u32::from_ne_bytes(ports.try_into().unwrap());
    [key.zone, key.vlan_proto, u32::from_ne_bytes(key.local), u32::from_ne_bytes(key.remote), ports]
}

fn words6(local: SocketAddr, remote: SocketAddr) -> [u32; 11] {
    let mut words = [ZONE, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, end) in [(2, local), (6, remote)] {
        let IpAddr::V6(ip) = end.ip() else { panic!("{end}") };
        for (word, bytes) in words[at..].iter_mut().zip(ip.octets().chunks(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
    }
    let ports = [local.port().to_ne_bytes(), remote.port().to_ne_bytes()].concat();
    words[10] = u32::from_ne_bytes(ports.try_into().unwrap());
    words
}

/// See the note beside it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../fixtures/v1/sg-ebpf.o");

/// Whether this kernel takes its program: those without TCX do not.
pub fn loads() -> bool {
    let loads = tc_place() == "tcx";
    if !loads {
        eprintln!("skipped: the program of ABI 1 needs a newer kernel");
    }
    loads
}

/// Its programs; links and maps are pinned, so it may be dropped at any time.
pub struct Version {
    _ebpf: Ebpf,
}

impl Version {
    /// Puts it in force on the world's device, with flows for connections that
    /// are open, local end first.
    pub fn put_in_force(world: &World, daemon: &Daemon<'_>, ends: &[(SocketAddr, SocketAddr)]) -> Self {
        daemon.enter(|| Self::load(world, set(daemon, "v1"), ends)).unwrap()
    }

    fn load(world: &World, dir: PathBuf, ends: &[(SocketAddr, SocketAddr)]) -> anyhow::Result<Self> {
        let links = dir.join("links");
        std::fs::create_dir_all(&links)?;
        let mut loader = EbpfLoader::new();
        for name in MAPS.into_iter().chain(COUNTERS) {
            loader.map_pin_path(name, dir.join(name));
        }
        let mut ebpf = loader.load(OBJECT)?;
        for name in ["sg_tc_in", "sg_tc_out", "sg_clock"] {
            program(&mut ebpf, name).load()?;
        }
        let xdp: &mut Xdp = ebpf.program_mut("sg_xdp").unwrap().try_into()?;
        xdp.load()?;
        let jiffies = |ebpf: &mut Ebpf| sys::test_run(program(ebpf, "sg_clock").fd().unwrap().as_fd(), &[0; 64], &[]);
        let cell = std::cell::RefCell::new(&mut ebpf);
        let hz = clock::ticks_per_second(|| jiffies(&mut cell.borrow_mut()))?;
        let now = jiffies(&mut ebpf)?;

        let device = std::ffi::CString::new(world.device())?;
        // SAFETY: a terminated name.
        let index = unsafe { libc::if_nametoindex(device.as_ptr()) };
        assert!(index != 0, "{device:?} is not here");
        Array::<_, [u32; 4]>::try_from(ebpf.map_mut("SG_CONFIG").unwrap())?.set(0, [1, hz, 0, 0], 0)?;
        let guest = u32::from(world.way == Way::Guest);
        let times = u32::from_ne_bytes([910_u16.to_ne_bytes(), 30_u16.to_ne_bytes()].concat().try_into().unwrap());
        let record = [0, 0, POLICY, EPOCH, 0, 0, ZONE, SLOT, guest, 0, times, u32::from_ne_bytes([3, 0, 0, 0]), 0, 0];
        Array::<_, [u32; 14]>::try_from(ebpf.map_mut("SG_GENERATIONS").unwrap())?.set(RECORD, record, 0)?;
        Array::<_, u64>::try_from(ebpf.map_mut("SG_IFACES").unwrap())?.set(index, u64::from(RECORD), 0)?;

        // Answered by both sides, begun inbound, accepted, confirmed.
        let seen = u32::from_ne_bytes([910_u16.to_ne_bytes(), [19, 19]].concat().try_into().unwrap());
        let flow = [now, now, EPOCH, 0, seen, u32::from_ne_bytes([0, 1, 3, 1])];
        for (local, remote) in ends {
            if let Some(key) = key4(ZONE, *local, *remote) {
                let mut table = HashMap::<_, [u32; 5], [u32; 6]>::try_from(ebpf.map_mut("SG_FLOWS4").unwrap())?;
                table.insert(words4(&key), flow, 0)?;
            } else {
                let mut table = HashMap::<_, [u32; 11], [u32; 6]>::try_from(ebpf.map_mut("SG_FLOWS6").unwrap())?;
                table.insert(words6(*local, *remote), flow, 0)?;
            }
        }
        attach(world, &mut ebpf, index, &links)?;
        Ok(Self { _ebpf: ebpf })
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

fn attach(world: &World, ebpf: &mut Ebpf, index: u32, links: &std::path::Path) -> anyhow::Result<()> {
    let device = world.device();
    let hooks = [("sg_tc_in", TcAttachType::Ingress, "in"), ("sg_tc_out", TcAttachType::Egress, "out")];
    for (name, kind, file) in hooks {
        if world.way == Way::HostXdp && file == "in" {
            let xdp: &mut Xdp = ebpf.program_mut("sg_xdp").unwrap().try_into()?;
            let id = xdp.attach_to_if_index(index, XdpMode::Driver)?;
            FdLink::try_from(xdp.take_link(id)?)?.pin(links.join(format!("{index}-in")))?;
            continue;
        }
        let program = program(ebpf, name);
        if world.way == Way::HostClsact {
            let _ = tc::qdisc_add_clsact(device);
            let first = tc::NlOptions { priority: 1, handle: tc::TcHandle::new(0, 1), classid: None };
            let id = program.attach_with_options(device, kind, TcAttachOptions::Netlink(first))?;
            std::mem::forget(program.take_link(id)?);
        } else {
            let id = program.attach_with_options(device, kind, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
            FdLink::try_from(program.take_link(id)?)?.pin(links.join(format!("{index}-{file}")))?;
        }
    }
    Ok(())
}

/// Packets of live flows that its program has passed, inbound.
pub fn established(daemon: &Daemon<'_>) -> u64 {
    let index = reason_index(SLOT, 0, Reason::Established as u8, Verdict::Accept as u8);
    let counters = daemon.enter(|| {
        Ok(map::<u32, Counter>(&set(daemon, "v1"), "SG_REASONS")?.get_per_cpu(&index, clock::possible_cpus())?)
    });
    counters.unwrap().iter().map(|c| c.packets).sum()
}
