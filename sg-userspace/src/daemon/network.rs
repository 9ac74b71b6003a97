//! rtnetlink: what devices and addresses there are, and word when that changes.

use std::{collections::HashMap, io, net::IpAddr, time::Instant};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_route::{
        address::{AddressAttribute, AddressScope},
        link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkXdp, XdpAttached},
    },
};
use tokio::sync::mpsc;

use crate::dataplane::machine::{Device, Machine};

/// The watch on the network.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    /// One message for any number of changes: when the first of them was heard of.
    pub changes: mpsc::Receiver<Instant>,
}

impl Network {
    /// Starts to watch this network namespace.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn watch() -> io::Result<Self> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])?;
        let (sender, changes) = mpsc::channel(1);
        tokio::spawn(connection);
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                // A full channel has a message that stands for this one, too.
                let _ = sender.try_send(Instant::now());
            }
        });
        Ok(Self { handle, changes })
    }

    /// All devices with their global-scope addresses.
    ///
    /// # Errors
    /// What netlink says.
    pub async fn machine(&self) -> Result<Machine, rtnetlink::Error> {
        let mut addresses: HashMap<u32, Vec<IpAddr>> = HashMap::new();
        let mut list = self.handle.address().get().execute();
        while let Some(message) = list.try_next().await? {
            if message.header.scope != AddressScope::Universe {
                continue;
            }
            // On a point-to-point link the address is the peer's, the local one is ours.
            let mut found = None;
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(ip) => found = Some(*ip),
                    AddressAttribute::Address(ip) => found = found.or(Some(*ip)),
                    _ => {}
                }
            }
            addresses.entry(message.header.index).or_default().extend(found);
        }
        let mut devices = Vec::new();
        let mut masters = HashMap::new();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await? {
            let index = message.header.index;
            let layer = message.header.link_layer_type;
            let mut device = Device {
                index,
                name: String::new(),
                ethernet: layer == LinkLayerType::Ether,
                loopback: layer == LinkLayerType::Loopback,
                up: message.header.flags.contains(LinkFlags::Up),
                master: None,
                vrf: false,
                kind: None,
                generic_xdp: false,
                xdp: None,
                addresses: addresses.remove(&index).unwrap_or_default(),
            };
            device.addresses.sort_unstable();
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => device.name = name,
                    LinkAttribute::Controller(master) => drop(masters.insert(index, master)),
                    LinkAttribute::Xdp(attached) => {
                        device.generic_xdp = attached.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
                        device.xdp = attached.iter().find_map(|x| match x {
                            LinkXdp::ProgId(id) => Some(*id),
                            _ => None,
                        });
                    }
                    LinkAttribute::LinkInfo(infos) => {
                        for info in infos {
                            if let LinkInfo::Kind(kind) = info {
                                device.kind = Some(kind.to_string());
                            }
                        }
                    }
                    _ => {}
                }
            }
            devices.push(device);
        }
        let named: HashMap<u32, (String, Option<String>)> =
            devices.iter().map(|d| (d.index, (d.name.clone(), d.kind.clone()))).collect();
        for device in &mut devices {
            let master = masters.get(&device.index).and_then(|m| named.get(m));
            device.vrf = master.is_some_and(|(_, kind)| kind.as_deref() == Some("vrf"));
            device.master = master.and_then(|(name, kind)| {
                // A VRF is no bridge: its ports keep their own traffic.
                let kind = kind.clone().filter(|k| matches!(k.as_str(), "bridge" | "bond" | "team"))?;
                Some((name.clone(), kind))
            });
        }
        devices.sort_by_key(|d| d.index);
        Ok(Machine { devices })
    }
}
