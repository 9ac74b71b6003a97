//! The programs we compare with, and the source of varied packets.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, Xdp},
};
use sg_common::bench::{BenchKey4, BenchKey6, Vary};
use sg_userspace::dataplane::sys::{self, RawMap};

/// `struct xdp_md` of a test run: data, data_end, data_meta, ingress ifindex, queue, egress ifindex.
type XdpContext = [u32; 6];

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// TC.
    Tc,
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Xdp => "XDP",
            Self::Tc => "TC",
        })
    }
}

/// The loaded object.
pub struct Peers {
    ebpf: Ebpf,
    flows4: RawMap<BenchKey4, u32>,
    flows6: RawMap<BenchKey6, u32>,
    vary: RawMap<u32, Vary>,
    next: [RawMap<u32, u32>; 2],
}

fn map<K: sys::Raw, V: sys::Raw>(ebpf: &Ebpf, name: &str) -> Result<RawMap<K, V>> {
    let map = ebpf.map(name).with_context(|| format!("no map {name}"))?;
    let data = match map {
        aya::maps::Map::HashMap(m) | aya::maps::Map::Array(m) | aya::maps::Map::ProgramArray(m) => m,
        other => anyhow::bail!("the map {name} is {other:?}"),
    };
    let fd: OwnedFd = data.fd().as_fd().try_clone_to_owned()?;
    Ok(RawMap::new(fd, size_of::<K>() as u32, size_of::<V>() as u32)?)
}

impl Peers {
    /// Loads them.
    ///
    /// # Errors
    /// Not root, or not built.
    pub fn load(object: &Path) -> Result<Self> {
        let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut ebpf = EbpfLoader::new().load(&bytes).context("cannot load the programs to compare with")?;
        for (_, program) in ebpf.programs_mut() {
            match program {
                aya::programs::Program::Xdp(p) => p.load()?,
                aya::programs::Program::SchedClassifier(p) => p.load()?,
                _ => {}
            }
        }
        let (flows4, flows6) = (map(&ebpf, "BENCH_FLOWS4")?, map(&ebpf, "BENCH_FLOWS6")?);
        let vary = map(&ebpf, "BENCH_VARY")?;
        let next = [map(&ebpf, "BENCH_NEXT_XDP")?, map(&ebpf, "BENCH_NEXT_TC")?];
        Ok(Self { ebpf, flows4, flows6, vary, next })
    }

    /// A program by name.
    ///
    /// # Errors
    /// No such program.
    pub fn program(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let program = self.ebpf.program(name).with_context(|| format!("no program {name}"))?;
        Ok(match program {
            aya::programs::Program::Xdp(p) => {
                let p: &Xdp = p;
                p.fd()?.as_fd()
            }
            aya::programs::Program::SchedClassifier(p) => {
                let p: &SchedClassifier = p;
                p.fd()?.as_fd()
            }
            _ => anyhow::bail!("{name} is neither XDP nor TC"),
        })
    }

    /// Makes the minimal program know the flow of a frame.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn know(&self, frame: &[u8], v4: bool) -> Result<()> {
        let word = |at: usize| u32::from_ne_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if v4 {
            let key = BenchKey4 { remote: word(26), local: word(30), ports: word(34), protocol: u32::from(frame[23]) };
            return Ok(self.flows4.update(&key, &1)?);
        }
        let key = BenchKey6 {
            remote: [word(22), word(26), word(30), word(34)],
            local: [word(38), word(42), word(46), word(50)],
            ports: word(54),
            protocol: u32::from(frame[20]),
        };
        Ok(self.flows6.update(&key, &1)?)
    }

    /// Has the source at `hook` vary a frame's sender before it hands it to
    /// `next`, or to the stack.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn vary(&self, hook: Hook, frame: &[u8], v4: bool, senders: u32, next: Option<BorrowedFd<'_>>) -> Result<()> {
        let words = frame[14..34].chunks_exact(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]])));
        let sum = words.enumerate().filter(|(i, _)| *i != 5 && *i != 7).map(|(_, w)| w).sum();
        self.vary.update(&0, &Vary { mask: senders - 1, v4: u32::from(v4), sum, pad: 0 })?;
        match next {
            Some(fd) => self.next[hook as usize].update(&0, &(std::os::fd::AsRawFd::as_raw_fd(&fd) as u32))?,
            None => drop(self.next[hook as usize].delete(&0)?),
        }
        Ok(())
    }
}

/// Nanoseconds of one run of a program on a frame.
///
/// # Errors
/// What the kernel says.
pub fn time(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<f64> {
    Ok(f64::from(sys::test_runs(program, frame, &[], repeat, false)?.1))
}

/// Nanoseconds of a live XDP frame received by a device, until it is freed.
///
/// # Errors
/// What the kernel says.
pub fn time_live(program: BorrowedFd<'_>, frame: &[u8], device: u32, repeat: u32) -> Result<f64> {
    let context: XdpContext = [0, frame.len() as u32, 0, device, 0, 0];
    // SAFETY: six words are 24 bytes, of which any are bytes.
    let bytes = unsafe { std::slice::from_raw_parts(context.as_ptr().cast::<u8>(), size_of::<XdpContext>()) };
    Ok(f64::from(sys::test_runs(program, frame, bytes, repeat, true)?.1))
}
