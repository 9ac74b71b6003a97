//! What stands at a device beside our programs: whether ours are still there,
//! and whether anything runs before them. A program before ours that ends the
//! chain (`TC_ACT_OK`, `PASS`) silences us; one after ours hears of what we pass.

use std::{fmt, io, path::Path};

use sg_common::maps;

use super::{
    attach::{self, Place},
    sys::{
        filters::{self, Filter},
        query::{self, PinnedLink, Standing},
    },
};

/// The hook of a program of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// XDP, before everything at TC.
    Xdp,
    /// TCX, before every filter of a clsact qdisc.
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

/// A program of somebody else that runs before ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Before {
    /// The device.
    pub device: String,
    /// Device ingress, or egress.
    pub ingress: bool,
    /// Its hook.
    pub hook: Hook,
    /// Its id; `None` for a filter that is no program.
    pub program: Option<u32>,
    /// Its name, where it is known.
    pub name: Option<String>,
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.hook {
            Hook::Xdp => "an XDP program",
            Hook::Tcx => "a TCX program",
            Hook::Clsact => "a clsact filter",
        };
        write!(f, "{}: {what} of somebody else", self.device)?;
        match (&self.name, self.program) {
            (Some(name), Some(id)) => write!(f, " ({name}, id {id})")?,
            (None, Some(id)) => write!(f, " (id {id})")?,
            (Some(name), None) => write!(f, " ({name})")?,
            (None, None) => {}
        }
        let direction = if self.ingress { "ingress" } else { "egress" };
        match self.hook {
            // What XDP passes comes to us.
            Hook::Xdp => write!(f, " runs before ours at {direction}: what it sends elsewhere is not judged"),
            Hook::Tcx | Hook::Clsact => write!(f, " runs before ours at {direction}: what it accepts is not judged"),
        }
    }
}

/// One direction of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Ours runs; before it, nothing or these: hook, program, name.
    Behind(Vec<(Hook, Option<u32>, Option<String>)>),
    /// Ours is not there any more, or another program is in its link.
    Gone,
}

/// Whether the device of a name still has an index.
pub fn is_here(name: &str, index: u32) -> bool {
    // SAFETY: a terminated name.
    std::ffi::CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } == index)
}

fn named(program: u32) -> Option<String> {
    query::program_name(program)
}

fn at_tcx(standing: &[Standing], ours: &PinnedLink) -> Stand {
    match standing.iter().position(|s| s.link == ours.id) {
        None => Stand::Gone,
        Some(n) => {
            Stand::Behind(standing[..n].iter().map(|s| (Hook::Tcx, Some(s.program), named(s.program))).collect())
        }
    }
}

/// Where our filter is, known by its name.
fn at_clsact(filters: Vec<Filter>, standing: &[Standing], ours: &str) -> Stand {
    let is_ours = |f: &Filter| f.name.as_deref() == Some(ours);
    let Some(n) = filters.iter().position(is_ours) else { return Stand::Gone };
    let tcx = standing.iter().map(|s| (Hook::Tcx, Some(s.program), named(s.program)));
    Stand::Behind(tcx.chain(filters.into_iter().take(n).map(|f| (Hook::Clsact, f.program, f.name))).collect())
}

/// Looks at one direction of a device. `program` is the id of ours that should
/// be there; `xdp` the XDP program that the device carries.
///
/// # Errors
/// What the kernel says; `ENODEV` when the device is gone.
pub fn look(
    links: &Path,
    index: u32,
    ingress: bool,
    place: Place,
    program: u32,
    xdp: Option<u32>,
) -> io::Result<Stand> {
    let pinned = || match PinnedLink::open(&attach::pin_path(links, index, ingress)) {
        Ok(link) => Ok((link.index == index && link.program == program).then_some(link)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let mut stand = match place {
        Place::Tcx => match pinned()? {
            Some(ours) => at_tcx(&query::tcx(index, ingress)?, &ours),
            None => Stand::Gone,
        },
        Place::Clsact => {
            let name = if ingress { maps::PROG_TC_IN } else { maps::PROG_TC_OUT };
            at_clsact(filters::clsact(index, ingress)?, &query::tcx(index, ingress)?, name)
        }
        Place::XdpNative | Place::XdpGeneric => {
            return Ok(pinned()?.map_or(Stand::Gone, |_| Stand::Behind(Vec::new())));
        }
    };
    if let (Stand::Behind(before), true, Some(xdp)) = (&mut stand, ingress, xdp) {
        before.insert(0, (Hook::Xdp, Some(xdp), named(xdp)));
    }
    Ok(stand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_is_named() {
        let filter =
            |handle, name: &str| Filter { priority: 1, handle, name: Some(name.into()), program: Some(handle + 100) };
        let ours = maps::PROG_TC_IN;
        let found = at_clsact(vec![filter(2, "other"), filter(1, ours)], &[], ours);
        assert_eq!(found, Stand::Behind(vec![(Hook::Clsact, Some(102), Some("other".into()))]));
        // Another's program under our handle is not ours.
        assert_eq!(at_clsact(vec![filter(1, "other")], &[], ours), Stand::Gone);
        let before = Before {
            device: "eth0".into(),
            ingress: true,
            hook: Hook::Clsact,
            program: Some(102),
            name: Some("other".into()),
        };
        assert_eq!(
            before.to_string(),
            "eth0: a clsact filter of somebody else (other, id 102) runs before ours at ingress: what it accepts is not judged"
        );
    }
}
