//! Pins that went away under a living daemon: bpffs was unmounted, or mounted
//! anew. The daemon's descriptors keep maps and links alive, and the traffic
//! judged; but they end with the daemon, so everything is pinned again.

use std::{io, os::fd::AsFd};

use super::Engine;
use crate::dataplane::{
    attach::{self, Place},
    object, pins, sys,
};

/// What was no longer pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repinned {
    /// Pins that are there again.
    pub pins: usize,
    /// Devices whose links ended with their pins: the next [`Engine::enforce`] attaches them anew.
    pub lapsed: Vec<String>,
}

impl Engine {
    /// Pins again what is no longer pinned. To be called before a change, which
    /// may let go of what only a descriptor holds.
    ///
    /// # Errors
    /// There is no BPF file system at the pin root, or what it says.
    pub fn repin(&mut self) -> io::Result<Repinned> {
        let all = object::names().into_iter().chain(object::ADDED);
        let missing: Vec<&str> = all.filter(|n| !self.pins.dir.join(n).exists()).collect();
        if !missing.is_empty() || !self.pins.links.exists() {
            if !pins::is_bpffs(self.pins.dir.ancestors().find(|p| p.exists()).unwrap_or(&self.pins.dir)) {
                return Err(io::Error::other("there is no BPF file system"));
            }
            self.pins.make()?;
        }
        let mut done = Repinned::default();
        for name in missing {
            let map = object::map_fd(&self.object.ebpf, name).map_err(io::Error::other)?;
            sys::pin(map.as_fd(), &self.pins.dir.join(name))?;
            done.pins += 1;
        }
        for (index, bound) in &mut self.bound {
            let Some(places) = bound.places else { continue };
            if let Some(held) = self.held.get(index) {
                done.pins += attach::repin(&self.pins.links, *index, held)?;
            }
            let links = places.iter().filter(|place| **place != Place::Clsact).count();
            if attach::links(&self.pins.links, *index) < links {
                bound.places = None;
                done.lapsed.push(bound.device.clone());
            }
        }
        Ok(done)
    }
}
