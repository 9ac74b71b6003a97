//! `sgctl watch`.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::{ctl::complete, explain};

/// What to watch.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl watch                                     drops and new flows of all devices
  sudo sgctl watch --device eth0 --verdict drop        what eth0 drops
  sudo sgctl watch --address 203.0.113.7 --port 22     is it us who drops that?
  sudo sgctl watch --rule 'web[3]' --for 10m           whom does a rule let in?
  sudo sgctl watch --every 1000 -o json | jq .         one packet of a thousand

All filters must be met. The kernel tells no more than --rate events a second and CPU:
a flood costs nothing extra, and what was left out is counted and said. With several
watchers the kernel tells what any of them wants; each sees no more than its own --rate,
and what is said to be left out is what it did not see for that, and what the kernel
did not tell of all of them.")]
pub struct Watch {
    /// Only packets of this device, or of those that a pattern means (repeatable)
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Only packets of devices in this group (repeatable)
    #[arg(short, long, value_name = "GROUP", add = complete::groups())]
    pub group: Vec<String>,
    /// Only packets to or from this address or network
    #[arg(short, long, value_name = "ADDRESS", value_parser = network)]
    pub address: Option<IpNet>,
    /// Only packets to or from this port, or a range such as 8000-8999
    #[arg(short, long, value_name = "PORT", value_parser = ports)]
    pub port: Option<(u16, u16)>,
    /// Only packets of this protocol
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<u8>,
    /// Only packets with this verdict: accept or drop
    #[arg(short, long, value_parser = ["accept", "drop"])]
    pub verdict: Option<String>,
    /// Only packets with this reason (repeatable); `sgctl explain --reasons` lists them
    #[arg(short, long, value_name = "REASON")]
    pub reason: Vec<String>,
    /// Only packets that this rule decided, as `sgctl interface show --rules` calls it
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Only one of so many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Events a second that each CPU tells at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u32,
    /// End after so many events
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,
    /// End after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| "not an address or a network such as 203.0.113.7 or 203.0.113.0/24".to_owned())
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once(['-', '/']).unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("not a port such as 22, or a range such as 8000-8999".into()),
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    explain::protocol(&serde_json::Value::String(text.to_owned()))
}
