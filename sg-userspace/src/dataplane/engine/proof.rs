//! Proof that a device is protected: which program of ours is where on it, and who runs
//! before and after it, as the kernel says now.

use std::io;

use serde::{Deserialize, Serialize};
use sg_common::maps;

use super::Engine;
use crate::dataplane::{
    attach::{self, Place},
    sys::{
        filters,
        query::{self, PinnedLink},
    },
};

/// One direction of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// `ingress` or `egress` of the device, whatever the instance's is.
    pub at: String,
    /// `tcx`, `clsact`, `xdp` or `xdp (generic)`.
    pub hook: String,
    /// Id of the link; absent for a filter, which has none.
    pub link: Option<u32>,
    /// Id of the program; absent when it is not there.
    pub program: Option<u32>,
    /// Its tag: a hash of its instructions.
    pub tag: Option<String>,
    /// Programs at the same hook that run before it.
    pub before: Vec<String>,
    /// Programs at the same hook that run after it, unless it drops.
    pub after: Vec<String>,
}

fn named(program: u32) -> String {
    match query::program_name(program) {
        Some(name) => format!("{name} (id {program})"),
        None => format!("id {program}"),
    }
}

impl Engine {
    /// What is on a protected device.
    ///
    /// # Errors
    /// What the kernel says; `ENODEV` when the device is gone.
    pub fn attached(&self, index: u32) -> io::Result<Vec<Attached>> {
        let places = self.bound.get(&index).and_then(|b| b.places);
        let both = places.into_iter().flat_map(|places| [true, false].into_iter().zip(places));
        both.map(|(ingress, place)| self.attached_at(index, ingress, place)).collect()
    }

    fn attached_at(&self, index: u32, ingress: bool, place: Place) -> io::Result<Attached> {
        let at = if ingress { "ingress" } else { "egress" }.to_owned();
        let mut found = Attached { at, hook: place.name().into(), ..Attached::default() };
        if place == Place::Clsact {
            let name = if ingress { maps::PROG_TC_IN } else { maps::PROG_TC_OUT };
            let all = filters::clsact(index, ingress)?;
            let Some(n) = all.iter().position(|f| f.name.as_deref() == Some(name)) else { return Ok(found) };
            let shown = |f: &filters::Filter| f.program.map_or_else(|| "a filter".into(), named);
            found.program = all[n].program;
            found.before = all[..n].iter().map(shown).collect();
            found.after = all[n + 1..].iter().map(shown).collect();
        } else {
            let link = match PinnedLink::open(&attach::pin_path(&self.pins.links, index, ingress)) {
                Ok(link) if link.index == index => link,
                Ok(_) => return Ok(found),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
                Err(e) => return Err(e),
            };
            (found.link, found.program) = (Some(link.id), Some(link.program));
            if place == Place::Tcx {
                let all = query::tcx(index, ingress)?;
                let n = all.iter().position(|s| s.link == link.id).unwrap_or(all.len());
                found.before = all[..n].iter().map(|s| named(s.program)).collect();
                found.after = all.iter().skip(n + 1).map(|s| named(s.program)).collect();
            }
        }
        found.tag = found.program.and_then(query::program_tag);
        Ok(found)
    }
}
