//! The kernel object: found, loaded, its maps opened by name.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use sg_common::{
    ABI_VERSION,
    account::Account,
    addr::Addr,
    event::Counter,
    flow::{Flow, FlowKey, FlowKey4, FlowKey6},
    generation::{Config, Generation, OwnKey},
    limits, maps,
    policy::AddrClass,
    quota::Quotas,
    shadow::{Compared, Differs},
    watch::{Tell, Told},
};
use thiserror::Error;

use super::{
    shapes::{ShapeError, Sizes},
    sys::{LpmKey, Raw, RawMap},
};

/// The object this binary was built with; empty when it was built without the kernel toolchain.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sg-ebpf.o"));

/// Why the kernel object cannot be used.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// Nowhere to be found.
    #[error(
        "the kernel program was not found: it is not built into this binary, and none of {searched:?} exists; \
         build it with `cargo xtask build-ebpf`, or name it with SG_EBPF_OBJECT"
    )]
    NotFound {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// It is there, but cannot be read.
    #[error("cannot read the kernel program {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The kernel has no type information.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux is missing): it must be built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf,
    /// The kernel refused it for lack of rights.
    #[error(
        "not allowed to load the kernel program: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed (run as root, or \
         give them with AmbientCapabilities= in the unit)"
    )]
    Privileges,
    /// The kernel refused it.
    #[error("cannot load the kernel program: {0:#}")]
    Load(anyhow::Error),
    /// A part the daemon needs is not in it.
    #[error("the kernel program has no {0}: it does not belong to this daemon")]
    Missing(String),
    /// A map has another shape.
    #[error("the map {map} does not fit this daemon: {error}")]
    Shape {
        /// Its name.
        map: &'static str,
        /// Both sizes.
        #[source]
        error: std::io::Error,
    },
    /// What is pinned is not what the program needs.
    #[error(transparent)]
    Pinned(#[from] ShapeError),
    /// Pins of another version.
    #[error(
        "{path} holds objects of ABI {found}, this daemon speaks ABI {ABI_VERSION}: run `sgd --detach` of the version \
         that made them first, or give this daemon another pin root"
    )]
    Abi {
        /// The pin root.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
}

/// The bytes of the kernel object: embedded, or from a file.
///
/// # Errors
/// [`ObjectError::NotFound`] names every place that was searched.
pub fn bytes() -> Result<Vec<u8>, ObjectError> {
    let mut searched = Vec::new();
    if let Some(path) = std::env::var_os("SG_EBPF_OBJECT") {
        searched.push(PathBuf::from(path));
    } else if !EMBEDDED.is_empty() {
        return Ok(EMBEDDED.to_vec());
    } else {
        if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            searched.push(dir.join("sg-ebpf.o"));
        }
        searched.push(PathBuf::from("/usr/lib/sg/sg-ebpf.o"));
    }
    for path in &searched {
        match std::fs::read(path) {
            Ok(bytes) => return Ok(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ObjectError::Read { path: path.clone(), error }),
        }
    }
    Err(ObjectError::NotFound { searched })
}

/// A conntrack entry as the daemon reads and writes it, see [`Flow`].
pub type FlowWords = [u32; size_of::<Flow>() / 4];

/// All maps, typed.
#[derive(Debug)]
pub struct Maps {
    /// By ifindex.
    pub ifaces: RawMap<u32, u64>,
    /// By generation index.
    pub generations: RawMap<u32, Generation>,
    /// One element.
    pub config: RawMap<u32, Config>,
    /// By size class, then policy index: a map's descriptor.
    pub policies: [RawMap<u32, u32>; 3],
    /// By policy index: a trie's descriptor.
    pub prefixes: RawMap<u32, u32>,
    /// By policy index: a hash's descriptor.
    pub hosts: RawMap<u32, u32>,
    /// Own addresses of guests.
    pub own: RawMap<OwnKey, u32>,
    /// Confirmed IPv4 flows.
    pub flows4: RawMap<FlowKey4, FlowWords>,
    /// Confirmed IPv6 flows.
    pub flows6: RawMap<FlowKey6, FlowWords>,
    /// Unconfirmed IPv4 flows: by initiating direction, and on probation.
    pub churn4: [RawMap<FlowKey4, FlowWords>; 3],
    /// Unconfirmed IPv6 flows: by initiating direction, and on probation.
    pub churn6: [RawMap<FlowKey6, FlowWords>; 3],
    /// Which flows may exist; one element of 256 KiB, mapped where it is used.
    pub filter: OwnedFd,
    /// How many flows may be confirmed; one element.
    pub quotas: RawMap<u32, Quotas>,
    /// How many are, see [`sg_common::quota::Usage`]; one element, mapped where it is used.
    pub usage: OwnedFd,
    /// Per-CPU counters by reason.
    pub reasons: RawMap<u32, Counter>,
    /// Per-CPU counters by rule.
    pub rules: RawMap<u32, Counter>,
    /// What is told to whom; one element.
    pub tell: RawMap<u32, Tell>,
    /// What each CPU has told; one element.
    pub told: RawMap<u32, Told>,
    /// What flows have carried.
    pub accounts: RawMap<FlowKey, Account>,
    /// Flows that a candidate decides otherwise.
    pub shadow: RawMap<FlowKey, Differs>,
    /// What each CPU has compared; one element.
    pub shadowed: RawMap<u32, Compared>,
}

/// A loaded object.
#[derive(Debug)]
pub struct Object {
    /// Programs, and the maps that are not opened below.
    pub ebpf: Ebpf,
    /// The maps.
    pub maps: Maps,
}

fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(d)
        | Map::ArrayOfMaps(d)
        | Map::HashMap(d)
        | Map::LruHashMap(d)
        | Map::PerCpuArray(d)
        | Map::RingBuf(d) => Some(d),
        _ => None,
    }
}

/// A descriptor of a map of the object.
///
/// # Errors
/// [`ObjectError::Missing`].
pub fn map_fd(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, ObjectError> {
    let missing = || ObjectError::Missing(format!("map {name}"));
    let data = ebpf.map(name).and_then(data).ok_or_else(missing)?;
    data.fd().as_fd().try_clone_to_owned().map_err(|_| missing())
}

fn open<K: Raw, V: Raw>(ebpf: &Ebpf, name: &'static str) -> Result<RawMap<K, V>, ObjectError> {
    let info = ebpf
        .map(name)
        .and_then(data)
        .and_then(|d| d.info().ok())
        .ok_or_else(|| ObjectError::Missing(format!("map {name}")))?;
    RawMap::new(map_fd(ebpf, name)?, info.key_size(), info.value_size())
        .map_err(|error| ObjectError::Shape { map: name, error })
}

impl Maps {
    pub(super) fn open(ebpf: &Ebpf) -> Result<Self, ObjectError> {
        Ok(Self {
            ifaces: open(ebpf, maps::IFACES)?,
            generations: open(ebpf, maps::GENERATIONS)?,
            config: open(ebpf, maps::CONFIG)?,
            policies: [open(ebpf, maps::POLICIES[0])?, open(ebpf, maps::POLICIES[1])?, open(ebpf, maps::POLICIES[2])?],
            prefixes: open(ebpf, maps::PREFIXES)?,
            hosts: open(ebpf, maps::HOSTS)?,
            own: open(ebpf, maps::OWN)?,
            flows4: open(ebpf, maps::FLOWS[0])?,
            flows6: open(ebpf, maps::FLOWS[1])?,
            churn4: [open(ebpf, maps::CHURN[0][0])?, open(ebpf, maps::CHURN[1][0])?, open(ebpf, maps::CHURN[2][0])?],
            churn6: [open(ebpf, maps::CHURN[0][1])?, open(ebpf, maps::CHURN[1][1])?, open(ebpf, maps::CHURN[2][1])?],
            filter: map_fd(ebpf, maps::FILTER)?,
            quotas: open(ebpf, maps::QUOTAS)?,
            usage: map_fd(ebpf, maps::USAGE)?,
            reasons: open(ebpf, maps::REASONS)?,
            rules: open(ebpf, maps::RULES)?,
            tell: open(ebpf, maps::TELL)?,
            told: open(ebpf, maps::TOLD)?,
            accounts: open(ebpf, maps::ACCOUNTS)?,
            shadow: open(ebpf, maps::SHADOW)?,
            shadowed: open(ebpf, maps::SHADOWED)?,
        })
    }
}

fn load_error(e: impl Into<anyhow::Error>) -> ObjectError {
    let e = e.into();
    let denied = e
        .chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|io| matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES)));
    // A verifier's refusal is EACCES, too, but comes with its log.
    if denied && !format!("{e:#}").contains("processed") { ObjectError::Privileges } else { ObjectError::Load(e) }
}

/// Whether a kernel takes map keys only from the stack: before 6.2 none from
/// what a global function was given a pointer to. A release that cannot be
/// read counts as one, since keys on the stack are right everywhere.
fn stack_keys(release: &str) -> bool {
    let mut numbers = release.trim().split(['.', '-', '+']).map(|n| n.parse::<u32>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    version < (Some(6), Some(2))
}

/// Loads the object. With `pins`, maps are pinned there, or taken from there
/// when they are pinned already.
///
/// # Errors
/// [`ObjectError`] says what is missing and what to do.
pub fn load(bytes: &[u8], pins: Option<&Path>) -> Result<Object, ObjectError> {
    load_sized(bytes, pins, Sizes { flows: limits::MAX_FLOWS, churn: limits::MAX_CHURN })
}

/// [`load`] with conntrack tables of these sizes. Maps that are pinned already
/// must have been checked, see [`super::shapes`].
///
/// # Errors
/// As [`load`].
pub fn load_sized(bytes: &[u8], pins: Option<&Path>, sizes: Sizes) -> Result<Object, ObjectError> {
    load_as(bytes, pins, sizes, false)
}

/// [`load_sized`]; a `dry` program only answers what it would do, see [`maps::DRY`].
///
/// # Errors
/// As [`load`].
pub fn load_as(bytes: &[u8], pins: Option<&Path>, sizes: Sizes, dry: bool) -> Result<Object, ObjectError> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() && !cfg!(test) {
        return Err(ObjectError::NoBtf);
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let stack_keys = u32::from(stack_keys(&release));
    let dry = u32::from(dry);
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS).override_global(maps::STACK_KEYS, &stack_keys, true);
    loader.override_global(maps::DRY, &dry, true);
    for (name, entries) in sizes.by_name() {
        loader.map_max_entries(name, entries);
    }
    if let Some(dir) = pins {
        for name in names().into_iter().chain(ADDED) {
            loader.map_pin_path(name, dir.join(name));
        }
    }
    let ebpf = loader.load(bytes).map_err(load_error)?;
    let maps = Maps::open(&ebpf)?;
    let mut object = Object { ebpf, maps };
    object.load_programs()?;
    Ok(object)
}

/// Maps that live on across restarts, too, but that sets of older daemons do not have.
pub const ADDED: [&str; 3] = [maps::ACCOUNTS, maps::SHADOW, maps::SHADOWED];

/// Names of all maps that live on across restarts, and that no set lacks.
pub fn names() -> Vec<&'static str> {
    let mut names = vec![maps::IFACES, maps::GENERATIONS, maps::CONFIG, maps::PREFIXES, maps::HOSTS, maps::OWN];
    names.extend(maps::POLICIES);
    names.extend(maps::FLOWS);
    names.extend(maps::CHURN.into_iter().flatten());
    names.extend([maps::FILTER, maps::QUOTAS, maps::USAGE, maps::FRAGMENTS, maps::REASONS, maps::RULES, maps::EVENTS]);
    names
}

impl Object {
    fn load_programs(&mut self) -> Result<(), ObjectError> {
        self.xdp()?.load().map_err(load_error)?;
        for name in [maps::PROG_TC_IN, maps::PROG_TC_OUT, maps::PROG_CLOCK] {
            self.tc(name)?.load().map_err(load_error)?;
        }
        Ok(())
    }

    /// Kernel ticks a second.
    ///
    /// # Errors
    /// What running the clock program says.
    pub fn ticks_per_second(&mut self) -> std::io::Result<u32> {
        let other = |e: &dyn std::fmt::Display| std::io::Error::other(e.to_string());
        let program = self.tc(maps::PROG_CLOCK).map_err(|e| other(&e))?;
        let fd = program.fd().map_err(|e| other(&e))?.as_fd();
        super::clock::ticks_per_second(|| super::sys::test_run(fd, &[0; 64], &[]))
    }

    /// The program's clock: low 32 bits of jiffies.
    ///
    /// # Errors
    /// What running the clock program says.
    pub fn jiffies(&mut self) -> std::io::Result<u32> {
        let other = |e: &dyn std::fmt::Display| std::io::Error::other(e.to_string());
        let program = self.tc(maps::PROG_CLOCK).map_err(|e| other(&e))?;
        super::sys::test_run(program.fd().map_err(|e| other(&e))?.as_fd(), &[0; 64], &[])
    }

    /// The XDP program.
    ///
    /// # Errors
    /// [`ObjectError::Missing`].
    pub fn xdp(&mut self) -> Result<&mut Xdp, ObjectError> {
        let program = self.ebpf.program_mut(maps::PROG_XDP);
        program
            .and_then(|p| p.try_into().ok())
            .ok_or_else(|| ObjectError::Missing(format!("program {}", maps::PROG_XDP)))
    }

    /// A TC program.
    ///
    /// # Errors
    /// [`ObjectError::Missing`].
    pub fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier, ObjectError> {
        let program: Result<&mut SchedClassifier, ProgramError> =
            self.ebpf.program_mut(name).ok_or_else(|| ObjectError::Missing(format!("program {name}")))?.try_into();
        program.map_err(|_| ObjectError::Missing(format!("program {name}")))
    }
}

/// The exact-host hash of a policy.
pub type HostMap = RawMap<Addr, AddrClass>;
/// The trie of a policy.
pub type PrefixMap = RawMap<LpmKey, AddrClass>;

#[cfg(test)]
mod tests {
    use super::stack_keys;

    #[test]
    fn kernels_before_6_2_take_keys_from_the_stack() {
        for release in ["6.1.0-56-cloud-amd64\n", "5.15.0-91-generic", "6.1", "", "unknown"] {
            assert!(stack_keys(release), "{release}");
        }
        for release in ["6.2.0", "6.12.117+deb12-cloud-amd64", "7.0.0-rc1", "10.1"] {
            assert!(!stack_keys(release), "{release}");
        }
    }
}
