//! What can be said of live flows.

use clap::Args;
use ipnet::IpNet;

use super::{Yes, documents};
use crate::{
    ctl::complete,
    daemon::protocol::{FlowFilter, FlowVerdict},
    validate::parse,
};

/// Live flows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl flows --device eth0 --port 443
  sudo sgctl flows --top --limit 10                     who has the most flows
  sudo sgctl flows --address 203.0.113.7 --cut          end all that one remote has open
  sudo sgctl flows --port 5432 --cut --reset            and have both ends know at once

States: half-open (who began it has not answered a reply yet), confirmed, closing, cut; observed is
one of a device that only observes yet, and will cut it.

A flow that is cut is dropped in both directions until it has been quiet for its timeout; both ends
find out by their own timers, unless --reset tells them: this host's own stack closes its
connections, and those of guests are reset in the name of their ends, where this host has a route
to both. No forwarded and no translated flow and nothing but TCP is reset: they are only cut. No
change of the policy and no restart of sgd opens a cut flow again; a new TCP connection is a flow
of its own, which the rules judge.

Exit status: 0 done, 1 refused (nothing was cut), 2 usage.")]
pub struct Flows {
    /// Those of this device
    #[arg(long, add = complete::devices())]
    pub device: Option<String>,
    /// Those of devices in this group, by its id or name
    #[arg(long, add = complete::groups())]
    pub group: Option<String>,
    /// Those with an end there: an address, or a prefix such as 10.0.0.0/8
    #[arg(long, value_parser = documents::source)]
    pub address: Option<IpNet>,
    /// Those with an end at this TCP or UDP port
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Those of this protocol: tcp, udp, icmp, icmpv6, gre or a number
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<u8>,
    /// Those that are let through (accept), or cut (drop)
    #[arg(long, value_enum)]
    pub verdict: Option<FlowVerdict>,
    /// How many are shown: those that had a packet last, or the remotes with the most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Count them by remote (an IPv6 network of 64 bits is one) and device
    #[arg(long, conflicts_with = "cut")]
    pub top: bool,
    /// Cut all that match; at least one of the filters must be said
    #[arg(long)]
    pub cut: bool,
    /// Cut them even if this SSH connection is one of them
    #[arg(long, requires = "cut")]
    pub with_my_session: bool,
    /// Reset TCP connections of this host before, so that both ends know at once
    #[arg(long, requires = "cut")]
    pub reset: bool,
    /// Whether to ask.
    #[command(flatten)]
    pub yes: Yes,
}

fn protocol(text: &str) -> Result<u8, String> {
    parse::protocol(text)?.ok_or_else(|| "all protocols are meant without --protocol".into())
}

impl Flows {
    /// Which are meant.
    pub fn filter(&self) -> FlowFilter {
        FlowFilter {
            device: self.device.clone(),
            group: self.group.clone(),
            address: self.address,
            port: self.port,
            protocol: self.protocol,
            verdict: self.verdict,
        }
    }
}
