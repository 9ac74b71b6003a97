//! What this machine's network looks like: devices and their addresses, as
//! plain data, so that everything that decides over it is pure.

use std::{collections::HashMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::model::{Instance, Model, Side, device_matches};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Whether frames start with an Ethernet header.
    pub ethernet: bool,
    /// Whether it is a loopback.
    pub loopback: bool,
    /// Whether it is up: it may carry live connections.
    pub up: bool,
    /// Name and kind of the bridge or bond it is enslaved to.
    pub master: Option<(String, String)>,
    /// Whether it is in a VRF: other routes lead to its addresses.
    #[serde(default)]
    pub vrf: bool,
    /// What kind of virtual device: `veth`, `tun`, `bond`; `None` for hardware.
    pub kind: Option<String>,
    /// Whether it carries an XDP program behind its driver.
    pub generic_xdp: bool,
    /// Id of the XDP program it carries, ours or another's.
    pub xdp: Option<u32>,
    /// Global-scope addresses.
    pub addresses: Vec<IpAddr>,
}

/// All devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// In order of index.
    pub devices: Vec<Device>,
}

/// An instance on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Index into the instances.
    pub instance: usize,
    /// The device.
    pub device: Device,
}

/// A named device that can not be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The device's name.
    pub device: String,
    /// Why, and what to do.
    pub why: String,
}

/// What a model means on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Every instance, those that live elsewhere included.
    pub instances: Vec<Instance>,
    /// Those on this machine.
    pub bindings: Vec<Binding>,
    /// Devices that are named but can not be protected.
    pub refused: Vec<Refused>,
    /// Names in the document that no device here has.
    pub absent: Vec<String>,
}

impl Machine {
    /// Finds the device of every interface: an exact name first, then the
    /// first pattern in document order.
    pub fn resolve(&self, model: &Model) -> Resolved {
        self.find(model, true)
    }

    /// The same, without the instances that live elsewhere.
    pub fn local(&self, model: &Model) -> Resolved {
        self.find(model, false)
    }

    /// The devices of each interface.
    fn owned(&self, model: &Model) -> HashMap<usize, Vec<&Device>> {
        let mut exact: HashMap<&str, usize> = HashMap::new();
        let mut patterns = Vec::new();
        for (index, interface) in model.interfaces.iter().enumerate() {
            let Some(name) = &interface.device else { continue };
            exact.entry(name).or_insert(index);
            if name.contains(['*', '?']) {
                patterns.push((name, index));
            }
        }
        let mut owned: HashMap<usize, Vec<&Device>> = HashMap::new();
        for device in self.devices.iter().filter(|d| !d.loopback) {
            let pattern = || patterns.iter().find(|(pattern, _)| device_matches(pattern, &device.name));
            let owner = exact.get(device.name.as_str()).copied().or_else(|| pattern().map(|(_, index)| *index));
            if let Some(interface) = owner {
                owned.entry(interface).or_default().push(device);
            }
        }
        owned
    }

    fn find(&self, model: &Model, remote: bool) -> Resolved {
        let owned = self.owned(model);
        let mut resolved = Resolved::default();
        for (index, interface) in model.interfaces.iter().enumerate() {
            let Some(name) = &interface.device else {
                if remote {
                    let addresses = interface.addresses.clone();
                    resolved.instances.push(Instance { interface: index, device: None, addresses });
                }
                continue;
            };
            let Some(devices) = owned.get(&index) else {
                resolved.absent.push(name.clone());
                let addresses = interface.addresses.clone();
                resolved.instances.push(Instance { interface: index, device: Some(name.clone()), addresses });
                continue;
            };
            for &device in devices {
                let declared = !interface.addresses.is_empty() || interface.side == Side::Guest;
                let addresses = if declared { interface.addresses.clone() } else { device.addresses.clone() };
                let instance = Instance { interface: index, device: Some(device.name.clone()), addresses };
                resolved.instances.push(instance);
                match (&device.master, interface.side) {
                    (Some((master, kind)), Side::Host) => resolved.refused.push(Refused {
                        device: device.name.clone(),
                        why: format!("it is a port of the {kind} {master}: name {master} instead"),
                    }),
                    _ => resolved
                        .bindings
                        .push(Binding { instance: resolved.instances.len() - 1, device: device.clone() }),
                }
            }
        }
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::{Source, parse},
        validate::{Quotas, validate},
    };

    fn device(index: u32, name: &str) -> Device {
        Device {
            index,
            name: name.into(),
            ethernet: true,
            loopback: index == 1,
            up: true,
            master: None,
            vrf: false,
            kind: None,
            generic_xdp: false,
            xdp: None,
            addresses: vec![IpAddr::from([10, 0, 0, index as u8])],
        }
    }

    #[test]
    fn names_patterns_masters_and_members_elsewhere() {
        let text = "security_groups: [{security_group_name: g}]\nnetwork_interfaces:\n\
                    - {device: 'tap*', side: guest, security_group_ids: [g]}\n\
                    - {device: tap1, security_group_ids: [g]}\n\
                    - {device: eth9, security_group_ids: [g]}\n\
                    - {device: eth0, security_group_ids: [g]}\n\
                    - {private_ip_addresses: [10.9.9.9], security_group_ids: [g]}\n";
        let document = parse(&[Source { name: "t".into(), bytes: text.into() }]).unwrap();
        let model = validate(&document, &Quotas::default()).unwrap();
        let mut port = device(5, "eth0");
        port.master = Some(("br0".into(), "bridge".into()));
        let machine =
            Machine { devices: vec![device(1, "lo"), device(2, "tap0"), device(3, "tap1"), device(4, "tap2"), port] };
        let r = machine.resolve(&model);
        let bound: Vec<_> =
            r.bindings.iter().map(|b| (b.device.name.as_str(), r.instances[b.instance].interface)).collect();
        assert_eq!(bound, [("tap0", 0), ("tap2", 0), ("tap1", 1)]);
        assert_eq!(r.absent, ["eth9"]);
        assert_eq!(r.refused[0].why, "it is a port of the bridge br0: name br0 instead");
        assert_eq!(r.instances[r.bindings[2].instance].addresses, [IpAddr::from([10, 0, 0, 3])]);
        assert!(r.instances[r.bindings[0].instance].addresses.is_empty());
        assert_eq!(r.instances.last().unwrap().addresses, [IpAddr::from([10, 9, 9, 9])]);
    }
}
