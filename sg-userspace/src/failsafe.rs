//! The failsafe: management ports that the administrator's own addresses reach whatever
//! rules say. It is set in `sgd.toml`, never in a document or by the API, so that nobody
//! who may write rules can lock the administrator out.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Instance, Interface, Side, device_matches, protocol_name};

/// Port ranges of a failsafe, each a rule of its own: with all of them, those of a
/// thousand rules and of ten groups still fit into the tables of one interface.
pub const MAX_PORTS: usize = 12;
/// Sources of a failsafe.
pub const MAX_SOURCES: usize = 64;
/// The protocol of the ports.
pub const PROTOCOL: u8 = 6;

/// Which ports, for whom, on which devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failsafe {
    /// TCP ports, first and last, ascending; none touches another.
    pub ports: Vec<(u16, u16)>,
    /// Prefixes, host bits cleared.
    pub sources: Vec<IpNet>,
    /// Names and patterns of devices; empty for those of side host.
    pub devices: Vec<String>,
}

/// `22` or `2200-2299`.
pub fn range((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

impl Failsafe {
    /// Whether an instance has it.
    pub fn covers(&self, interface: &Interface, instance: &Instance) -> bool {
        let Some(device) = &instance.device else { return false };
        if self.devices.is_empty() {
            return interface.side == Side::Host;
        }
        self.devices.iter().any(|pattern| device_matches(pattern, device))
    }

    /// Sources that are everybody.
    pub fn everybody(&self) -> impl Iterator<Item = &IpNet> {
        self.sources.iter().filter(|net| net.prefix_len() == 0)
    }

    /// Where it stands: the devices' names and patterns, or which ones.
    pub fn place(&self) -> String {
        if self.devices.is_empty() { "all devices of side host".into() } else { self.devices.join(", ") }
    }

    /// `tcp 22, 2200-2299`.
    pub fn services(&self) -> String {
        let ports: Vec<String> = self.ports.iter().copied().map(range).collect();
        format!("{} {}", protocol_name(Some(PROTOCOL)), ports.join(", "))
    }
}

/// The first few of some prefixes, and how many more there are.
pub fn some(sources: &[IpNet]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = sources.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = sources.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
