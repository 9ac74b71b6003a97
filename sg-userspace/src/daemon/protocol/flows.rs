//! What is asked and said of live flows.

use std::net::IpAddr;

use clap::ValueEnum;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Session;
use crate::dataplane::report::Resets;

/// What is asked of live flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsAsked {
    /// Which.
    pub filter: FlowFilter,
    /// Lines of the answer at most.
    pub limit: usize,
    /// What is to be done with them.
    pub want: Want,
}

/// What is to be done with live flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// They are listed.
    List,
    /// They are counted by remote.
    Top,
    /// They are cut.
    Cut {
        /// The caller's own connection: when it is among them, all of it is refused.
        session: Option<Session>,
        /// TCP connections are reset before, so that both ends know at once.
        #[serde(default)]
        reset: bool,
    },
}

/// Which live flows are meant: those that all of it holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// Those of this device.
    pub device: Option<String>,
    /// Those of devices in this group, by its id or name.
    pub group: Option<String>,
    /// Those with an end in this prefix.
    pub address: Option<IpNet>,
    /// Those with an end at this port.
    pub port: Option<u16>,
    /// Those of this IP protocol.
    pub protocol: Option<u8>,
    /// Those that are let through, or not.
    pub verdict: Option<FlowVerdict>,
}

/// What happens to the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FlowVerdict {
    /// They pass.
    Accept,
    /// The flow is cut.
    Drop,
}

impl FlowVerdict {
    /// `accept` or `drop`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        }
    }
}

/// A live flow, as the instance sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLine {
    /// Its device.
    pub device: String,
    /// A name, or a number.
    pub protocol: String,
    /// Direction of its first packet: `ingress` or `egress`.
    pub direction: String,
    /// The instance's address.
    pub local: IpAddr,
    /// The instance's port; absent where there is none. Of an ICMP echo, its identifier.
    pub local_port: Option<u16>,
    /// The other side's address.
    pub remote: IpAddr,
    /// The other side's port.
    pub remote_port: Option<u16>,
    /// Ids of its VLANs, outer first.
    pub vlans: Vec<u16>,
    /// `half-open` (its initiator has not answered a reply yet), `confirmed`, `closing`,
    /// `cut`, or `observed` (its device only observes, and will cut it).
    pub state: String,
    /// When last judged.
    pub verdict: FlowVerdict,
    /// The rule that decided, by its group and index or the name of an invisible one;
    /// absent when it was cut by hand.
    pub rule: Option<String>,
    /// Whole seconds since its last packet.
    pub idle: u32,
    /// Seconds after which it is forgotten.
    pub timeout: u32,
}

/// A remote, and what it has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopLine {
    /// The device.
    pub device: String,
    /// An IPv4 address, or an IPv6 network of 64 bits.
    pub remote: IpNet,
    /// Its flows.
    pub flows: usize,
    /// Those of them that are confirmed.
    pub confirmed: usize,
    /// Those of them that are cut.
    pub cut: usize,
}

/// Remotes with their flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopView {
    /// How many flows match.
    pub flows: usize,
    /// How many remotes they have, by device.
    pub remotes: usize,
    /// Those with the most.
    pub top: Vec<TopLine>,
}

/// What became of flows that were to be cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutView {
    /// Cut.
    pub cut: usize,
    /// Had ended by then.
    pub ended: usize,
    /// Begun anew each time that they were cut.
    pub open: usize,
    /// What became of those that were to be reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<Resets>,
}

/// What is said of live flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowsView {
    /// To [`Want::List`].
    Listed {
        /// How many match.
        total: usize,
        /// Those that had a packet last, newest first.
        flows: Vec<FlowLine>,
    },
    /// To [`Want::Top`].
    Top(TopView),
    /// To [`Want::Cut`].
    Cut(CutView),
}
