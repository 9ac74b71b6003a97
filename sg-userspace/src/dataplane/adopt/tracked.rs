//! What nf_conntrack knows, where it is there: flows that are forwarded or
//! translated are no sockets, and who began a flow is on record.

use std::{io, net::IpAddr};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status, Tuple as Part,
    },
};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::netlink::Netlink;

/// There when connections are tracked in this network namespace.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// `TCP_CONNTRACK_ESTABLISHED` to `TCP_CONNTRACK_LAST_ACK`.
const TCP_LIVES: std::ops::RangeInclusive<u8> = 3..=6;

/// Source and destination of one direction, as they are on the wire there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Sender's address and port; port 0 where there is none.
    pub source: (IpAddr, u16),
    /// Receiver's address and port.
    pub destination: (IpAddr, u16),
}

/// A tracked flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// IP protocol.
    pub protocol: u8,
    /// Packets of who began it, before translation.
    pub original: Tuple,
    /// Packets that answer, before translation.
    pub reply: Tuple,
    /// Whether both directions have been seen.
    pub answered: bool,
}

impl Tracked {
    /// Whether addresses or ports are translated on the way.
    pub fn is_translated(&self) -> bool {
        (self.original.source, self.original.destination) != (self.reply.destination, self.reply.source)
    }
}

/// Live flows; none where nothing is tracked. Nothing is loaded into the kernel
/// to find that out.
///
/// # Errors
/// What the kernel says: no rights, `CONFIG_NF_CT_NETLINK` missing.
pub fn read() -> io::Result<Vec<Tracked>> {
    let count = std::fs::read_to_string(COUNT).unwrap_or_default();
    if count.trim().parse::<u64>().unwrap_or(0) == 0 {
        return Ok(Vec::new());
    }
    let netlink = Netlink::open(NETLINK_NETFILTER)?;
    let mut flows = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let question = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(Vec::new()));
        netlink.list(question, |message| {
            if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner {
                flows.extend(flow(&attributes));
            }
        })?;
    }
    Ok(flows)
}

fn flow(attributes: &[ConntrackAttribute]) -> Option<Tracked> {
    let (mut original, mut reply, mut status, mut state) = (None, None, Status::empty(), None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => original = tuple(parts),
            ConntrackAttribute::CtaTupleReply(parts) => reply = tuple(parts),
            ConntrackAttribute::CtaStatus(s) => status = *s,
            ConntrackAttribute::CtaProtoInfo(infos) => {
                for info in infos {
                    if let ProtoInfo::TCP(fields) = info {
                        state =
                            fields.iter().find_map(|f| if let ProtoInfoTCP::State(s) = f { Some(*s) } else { None });
                    }
                }
            }
            _ => {}
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    if protocol == 6 && !state.is_some_and(|s| TCP_LIVES.contains(&s)) {
        return None;
    }
    // An echo is over before anyone could adopt it.
    if matches!(protocol, 1 | 58) {
        return None;
    }
    Some(Tracked { protocol, original, reply, answered: status.contains(Status::SeenReply) })
}

fn tuple(parts: &[Part]) -> Option<(u8, Tuple)> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let mut ports = [0; 2];
    for part in parts {
        match part {
            Part::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(a) => source = Some(*a),
                        IPTuple::DestinationAddress(a) => destination = Some(*a),
                        _ => {}
                    }
                }
            }
            Part::Proto(fields) => {
                for field in fields {
                    match field {
                        ProtoTuple::Protocol(p) => protocol = Some(u8::from(*p)),
                        ProtoTuple::SourcePort(port) => ports[0] = *port,
                        ProtoTuple::DestinationPort(port) => ports[1] = *port,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let protocol = protocol?;
    // Other protocols are flows by their addresses alone.
    let [from, to] = if matches!(protocol, 6 | 17) { ports } else { [0; 2] };
    Some((protocol, Tuple { source: (source?, from), destination: (destination?, to) }))
}
