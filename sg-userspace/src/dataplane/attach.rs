//! Programs to devices: TCX first, clsact below, XDP where asked for. Links
//! are pinned, so that they outlive the daemon; a new daemon swaps the program
//! inside them by one update.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use sg_common::maps;
use thiserror::Error;

use super::{
    machine::Device,
    object::{Object, ObjectError},
};
use crate::model::Hook;

/// Where the program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCX link.
    Tcx,
    /// Filter of a clsact qdisc.
    Clsact,
    /// XDP in the driver.
    XdpNative,
    /// XDP behind the driver.
    XdpGeneric,
}

impl Place {
    /// The name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::XdpNative => "xdp",
            Self::XdpGeneric => "xdp (generic)",
        }
    }
}

/// Why a device could not be protected.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The program is not there.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The kernel refused.
    #[error("cannot attach to {device} ({direction}): {error:#}")]
    Kernel {
        /// The device.
        device: String,
        /// Device ingress or egress.
        direction: &'static str,
        /// What the kernel said.
        error: anyhow::Error,
    },
    /// The link cannot be pinned.
    #[error("cannot pin {path}: {error}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A program of somebody else is there.
    #[error("{device} carries an XDP program that is not ours; it is left alone: take it off, or write `hook: tc`")]
    Foreign {
        /// The device.
        device: String,
    },
}

/// Our filter on clsact: before all of other priorities. The kernel gives it a
/// handle that nobody has.
const FIRST: NlOptions = NlOptions { priority: 1, handle: TcHandle::AUTO_ASSIGN, classid: None };

/// File of a link.
pub(super) fn pin_path(links: &Path, index: u32, ingress: bool) -> PathBuf {
    links.join(format!("{index}-{}", if ingress { "in" } else { "out" }))
}

/// Indices of devices that have pinned links.
pub fn pinned(links: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(links) else { return Vec::new() };
    let mut indices: Vec<u32> =
        entries.filter_map(|e| e.ok()?.file_name().to_str()?.split_once('-')?.0.parse().ok()).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// Whether pinned links of a device are on no device of that index any more:
/// it is gone, and another may have its index.
pub fn is_stale(links: &Path, index: u32) -> bool {
    let link = super::sys::open_pin(&pin_path(links, index, false));
    link.is_ok_and(|link| super::sys::link_ifindex(link.as_fd()).is_ok_and(|on| on != index))
}

fn failed(device: &Device, ingress: bool) -> impl Fn(anyhow::Error) -> AttachError {
    let (device, direction) = (device.name.clone(), if ingress { "ingress" } else { "egress" });
    move |error| AttachError::Kernel { device: device.clone(), direction, error }
}

/// Removes a pinned link, if it is there. A driver that does not let go of its
/// program keeps the link, and the error says so.
fn remove(path: &Path) -> io::Result<()> {
    if let Ok(link) = super::sys::open_pin(path) {
        super::sys::neutralize(link.as_fd()).map_err(|e| {
            let why = "its driver does not let go of the XDP program";
            let cure =
                "set the MTU back to what it was when the program came (`ip link set … mtu 1500`), then try again";
            io::Error::new(e.kind(), format!("{why} ({e}), as some do not once the MTU is too large for XDP: {cure}"))
        })?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn keep(link: FdLink, path: &Path) -> Result<(), AttachError> {
    let pin = |error: &dyn std::fmt::Display| AttachError::Pin { path: path.into(), error: error.to_string() };
    remove(path).map_err(|e| pin(&e))?;
    link.pin(path).map(drop).map_err(|e| pin(&e))
}

/// How links are made and kept.
#[derive(Clone, Copy, Debug)]
pub struct Links<'a> {
    /// Directory of their pins.
    pub dir: &'a Path,
    /// Whether TCX is tried before clsact.
    pub tcx: bool,
}

/// What attaching did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Device ingress, device egress.
    pub places: [Place; 2],
    /// Whether nothing of ours was on the device before.
    pub fresh: bool,
}

/// Attaches both directions; a device that already has our links gets the
/// new program in them.
///
/// # Errors
/// The device keeps whatever it had.
pub fn attach(object: &mut Object, device: &Device, hook: Hook, links: Links<'_>) -> Result<Attached, AttachError> {
    let pinned = pin_path(links.dir, device.index, false).exists();
    let (out, replaced) = attach_tc(object, device, false, links)?;
    let wanted = match hook {
        Hook::Tc => None,
        Hook::Xdp => Some(true),
        // Hardware only: on veth, tap and virtio the frame is an skb already.
        Hook::Auto => (device.ethernet && device.kind.is_none()).then_some(false),
    };
    let ingress = match wanted {
        None => attach_tc(object, device, true, links)?.0,
        Some(asked) => match attach_xdp(object, device, asked, links.dir) {
            Ok(place) => place,
            Err(_) if !asked => attach_tc(object, device, true, links)?.0,
            Err(e) => return Err(e),
        },
    };
    Ok(Attached { places: [ingress, out], fresh: !pinned && !replaced })
}

/// Also says whether a filter of ours was there already.
fn attach_tc(
    object: &mut Object,
    device: &Device,
    ingress: bool,
    links: Links<'_>,
) -> Result<(Place, bool), AttachError> {
    let (name, kind) =
        if ingress { (maps::PROG_TC_IN, TcAttachType::Ingress) } else { (maps::PROG_TC_OUT, TcAttachType::Egress) };
    let fail = failed(device, ingress);
    let path = pin_path(links.dir, device.index, ingress);
    if !links.tcx {
        return clsact_only(object, device, (name, kind), &path).map_err(&fail);
    }
    let program = object.tc(name)?;
    if let Ok(old) = PinnedLink::from_pin(&path) {
        let adopted =
            SchedClassifierLink::try_from(FdLink::from(old)).ok().and_then(|l| program.attach_to_link(l).ok());
        if let Some(id) = adopted {
            // The pin keeps the link; our descriptor of it is not needed.
            drop(program.take_link(id));
            return Ok((Place::Tcx, false));
        }
        // The device it was on is gone, or it is an XDP link.
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    match program.attach_with_options(&device.name, kind, first) {
        Ok(id) => {
            let link = program.take_link(id).map_err(|e| fail(e.into()))?;
            let link = FdLink::try_from(link).map_err(|e| fail(e.into()))?;
            keep(link, &path)?;
            // A filter of before, if there is one, would judge a second time.
            let replaced = tc::qdisc_detach_program(&device.name, kind, name).is_ok();
            Ok((Place::Tcx, replaced))
        }
        Err(ProgramError::SyscallError(e)) if matches!(e.io_error.raw_os_error(), Some(libc::EINVAL)) => {
            clsact_only(object, device, (name, kind), &path).map_err(&fail)
        }
        Err(e) => Err(fail(e.into())),
    }
}

/// A filter, and no link beside it: nothing is judged twice.
fn clsact_only(
    object: &mut Object,
    device: &Device,
    (name, kind): (&str, TcAttachType),
    link: &Path,
) -> anyhow::Result<(Place, bool)> {
    let replaced = attach_clsact(object, device, name, kind)?;
    if let Err(e) = remove(link) {
        // The link stays, so the filter goes; what it says does not matter then.
        let _ = tc::qdisc_detach_program(&device.name, kind, name);
        return Err(e.into());
    }
    Ok((Place::Clsact, replaced))
}

/// Our filter on a clsact qdisc, if it is there. By its name, as somebody else's may
/// have any priority and handle.
fn own_filter(index: u32, device: &str, name: &str, kind: TcAttachType) -> anyhow::Result<Option<SchedClassifierLink>> {
    let filters = super::sys::filters::clsact(index, kind == TcAttachType::Ingress)?;
    let Some(f) = filters.iter().find(|f| f.name.as_deref() == Some(name)) else { return Ok(None) };
    Ok(Some(SchedClassifierLink::attached(device, kind, f.priority, f.handle.into(), None)?))
}

/// Whether a filter of ours is on a device.
pub fn has_filter(index: u32) -> bool {
    let is_ours = |ingress, name| {
        let filters = super::sys::filters::clsact(index, ingress).unwrap_or_default();
        filters.iter().any(|f| f.name.as_deref() == Some(name))
    };
    is_ours(true, maps::PROG_TC_IN) || is_ours(false, maps::PROG_TC_OUT)
}

/// Below 6.6 there is no TCX. Says whether a filter of ours was there.
fn attach_clsact(object: &mut Object, device: &Device, name: &str, kind: TcAttachType) -> anyhow::Result<bool> {
    match tc::qdisc_add_clsact(&device.name) {
        Ok(()) => {}
        Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(libc::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let program = object.tc(name)?;
    // Our own filter of before: its program is replaced in place.
    let (id, replaced) = match own_filter(device.index, &device.name, name, kind)? {
        Some(old) => (program.attach_to_link(old)?, true),
        None => (program.attach_with_options(&device.name, kind, TcAttachOptions::Netlink(FIRST))?, false),
    };
    // Dropping the link would take the filter off; it stays until detached by name.
    std::mem::forget(program.take_link(id)?);
    Ok(replaced)
}

/// Puts ours before every other program at TCX without a gap: a second link is
/// first there before the old one goes, so a packet of the moment between may be
/// judged twice, by the same policy and with the same outcome. `copy` is another
/// load of the object, as the kernel takes a program only once at a hook.
///
/// # Errors
/// What the kernel says; ours stands where it stood.
pub(super) fn move_first(copy: &mut Object, device: &Device, ingress: bool, links: &Path) -> Result<(), AttachError> {
    let (name, kind) =
        if ingress { (maps::PROG_TC_IN, TcAttachType::Ingress) } else { (maps::PROG_TC_OUT, TcAttachType::Egress) };
    let fail = failed(device, ingress);
    let path = pin_path(links, device.index, ingress);
    let mut next = path.clone().into_os_string();
    next.push(MOVING);
    let next = PathBuf::from(next);
    let pin = |error: &dyn std::fmt::Display| AttachError::Pin { path: next.clone(), error: error.to_string() };
    let old = super::sys::query::PinnedLink::open(&path).map_err(|e| pin(&e))?;
    let program = copy.tc(name)?;
    let id = program
        .attach_with_options(&device.name, kind, TcAttachOptions::TcxOrder(LinkOrder::first()))
        .map_err(|e| fail(e.into()))?;
    let link = FdLink::try_from(program.take_link(id).map_err(|e| fail(e.into()))?).map_err(|e| fail(e.into()))?;
    remove(&next).map_err(|e| pin(&e))?;
    link.pin(&next).map_err(|e| pin(&e))?;
    // From one breath to the next the pin names the new link instead of the old one.
    std::fs::rename(&next, &path).map_err(|e| pin(&e))?;
    // It would go by itself, but later.
    old.detach().map_err(|e| fail(e.into()))
}

/// Ending of the pin of a link that is being moved; a BPF file system takes no dots.
const MOVING: &str = "-moving";

/// Removes links that were being moved when the daemon died.
pub(super) fn forget_moves(links: &Path) {
    for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(MOVING) {
            // One that stays judges twice; the next start tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn attach_xdp(object: &mut Object, device: &Device, generic: bool, links: &Path) -> Result<Place, AttachError> {
    let fail = failed(device, true);
    let path = pin_path(links, device.index, true);
    let program = object.xdp()?;
    if let Ok(old) = PinnedLink::from_pin(&path) {
        let adopted =
            aya::programs::xdp::XdpLink::try_from(FdLink::from(old)).ok().and_then(|l| program.attach_to_link(l).ok());
        if let Some(id) = adopted {
            drop(program.take_link(id));
            return Ok(if device.generic_xdp { Place::XdpGeneric } else { Place::XdpNative });
        }
    }
    let modes = [(XdpMode::Driver, Place::XdpNative), (XdpMode::Skb, Place::XdpGeneric)];
    let mut last = None;
    for (mode, place) in modes.into_iter().take(1 + usize::from(generic)) {
        match program.attach_to_if_index(device.index, mode) {
            Ok(id) => {
                let link = program.take_link(id).map_err(|e| fail(e.into()))?;
                let link = FdLink::try_from(link).map_err(|e| fail(e.into()))?;
                keep(link, &path)?;
                // A filter of before, if there is one, would judge a second time.
                let _ = tc::qdisc_detach_program(&device.name, TcAttachType::Ingress, maps::PROG_TC_IN);
                return Ok(place);
            }
            Err(e) => {
                if format!("{e:?}").contains("EBUSY") || format!("{e:?}").contains("code: 16") {
                    return Err(AttachError::Foreign { device: device.name.clone() });
                }
                last = Some(e);
            }
        }
    }
    let error = last.map_or_else(|| anyhow::anyhow!("no mode was tried"), Into::into);
    Err(fail(error))
}

/// Puts the program into what a device has from another set of maps, and moves
/// the pins of its links from `from` to `to`. What has been moved is left as it is.
///
/// # Errors
/// What the kernel or the driver says; the device keeps the program it has.
pub fn take_over(object: &mut Object, (from, to): (&Path, &Path), index: u32, device: &str) -> anyhow::Result<()> {
    let mut moves = Vec::new();
    for (ingress, name, kind) in
        [(true, maps::PROG_TC_IN, TcAttachType::Ingress), (false, maps::PROG_TC_OUT, TcAttachType::Egress)]
    {
        let (old, new) = (pin_path(from, index, ingress), pin_path(to, index, ingress));
        match super::sys::open_pin(&old) {
            Ok(link) if super::sys::is_xdp_link(link.as_fd())? => {
                super::sys::link_update(link.as_fd(), object.xdp()?.fd()?.as_fd())?;
                moves.push((old, new));
            }
            Ok(link) => {
                super::sys::link_update(link.as_fd(), object.tc(name)?.fd()?.as_fd())?;
                moves.push((old, new));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            Err(_) if new.exists() => {}
            Err(_) => {
                // A filter, if it is there; by its name, as it may have any handle.
                if let Some(filter) = own_filter(index, device, name, kind)? {
                    let program = object.tc(name)?;
                    let id = program.attach_to_link(filter)?;
                    std::mem::forget(program.take_link(id)?);
                }
            }
        }
    }
    for (old, new) in moves {
        std::fs::rename(old, new)?;
    }
    Ok(())
}

/// How many links of a device are pinned.
pub fn links(links: &Path, index: u32) -> usize {
    [true, false].into_iter().filter(|ingress| pin_path(links, index, *ingress).exists()).count()
}

/// Descriptors of a device's pinned links: while they are open, the links live
/// on without their pins.
pub fn hold(links: &Path, index: u32) -> [Option<OwnedFd>; 2] {
    [true, false].map(|ingress| super::sys::open_pin(&pin_path(links, index, ingress)).ok())
}

/// Pins links that are held again, where their pins are gone. Returns how many were.
///
/// # Errors
/// What the kernel says.
pub fn repin(links: &Path, index: u32, held: &[Option<OwnedFd>; 2]) -> io::Result<usize> {
    let mut count = 0;
    for (ingress, link) in [true, false].into_iter().zip(held) {
        let path = pin_path(links, index, ingress);
        if let Some(link) = link.as_ref().filter(|_| !path.exists()) {
            super::sys::pin(link.as_fd(), &path)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Takes the protection off a device, or what is left of it when the device is gone.
///
/// # Errors
/// A pin that cannot be removed, a driver that does not let go of its program.
pub fn detach(links: &Path, index: u32, name: Option<&str>) -> io::Result<()> {
    // Ingress first: where a driver keeps its program, nothing is taken off.
    for ingress in [true, false] {
        remove(&pin_path(links, index, ingress))?;
    }
    if let Some(name) = name {
        // Not there on a device with TCX.
        let _ = tc::qdisc_detach_program(name, TcAttachType::Ingress, maps::PROG_TC_IN);
        let _ = tc::qdisc_detach_program(name, TcAttachType::Egress, maps::PROG_TC_OUT);
    }
    Ok(())
}
