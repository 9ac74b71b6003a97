//! Which device packets to an address leave by, as the kernel's own routing says.

use std::{collections::HashMap, io, net::IpAddr};

use rtnetlink::{
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
    sys::protocols::NETLINK_ROUTE,
};

use super::netlink::Netlink;

/// Answers are kept: many flows have one way.
pub struct Routes {
    netlink: Netlink,
    known: HashMap<(Option<IpAddr>, IpAddr), Option<u32>>,
}

fn address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

impl Routes {
    /// Opens the way to ask.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open(NETLINK_ROUTE)?, known: HashMap::new() })
    }

    /// Index of the device that packets to `to` leave by, from an address of this
    /// machine if one is given; `None` without a route.
    pub fn device(&mut self, from: Option<IpAddr>, to: IpAddr) -> Option<u32> {
        if let Some(known) = self.known.get(&(from, to)) {
            return *known;
        }
        let device = self.ask(from, to);
        self.known.insert((from, to), device);
        device
    }

    fn ask(&self, from: Option<IpAddr>, to: IpAddr) -> Option<u32> {
        let mut question = RouteMessage::default();
        let bits = if to.is_ipv4() { 32 } else { 128 };
        question.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        question.header.destination_prefix_length = bits;
        question.attributes.push(RouteAttribute::Destination(address(to)));
        if let Some(from) = from {
            question.header.source_prefix_length = bits;
            question.attributes.push(RouteAttribute::Source(address(from)));
        }
        // No route is an error of the kernel's, and an answer here.
        let answer = self.netlink.ask(RouteNetlinkMessage::GetRoute(question)).ok()??;
        let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
        route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None })
    }
}
