//! What can be said of captures.

use std::net::IpAddr;

use clap::{Args, ValueHint};

use crate::ctl::complete;

/// Send a capture through the kernel program.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo tcpdump -i eth0 -w capture.pcap
  sudo sgctl replay capture.pcap -f candidate.yaml
  sudo sgctl replay capture.pcap -f new.yaml --from old.yaml --device eth0 --local 10.0.0.5

Packets are judged with connection tracking, in their order and time. Flows that were live
before the capture began are judged anew at their first packet in it. Needs root, attaches
nothing, changes nothing. Exit status: 0 done, 1 refused, 2 usage.")]
pub struct Replay {
    /// A pcap or pcapng file; - is standard input
    #[arg(value_name = "CAPTURE", value_hint = ValueHint::FilePath)]
    pub capture: String,
    /// Candidate document, in the place of the one of its name; several are one document
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub file: Vec<String>,
    /// Compare with this document, not with what is in force: needs no daemon
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub from: Vec<String>,
    /// Take over objects that belong to another document
    #[arg(long, conflicts_with = "from")]
    pub adopt: bool,
    /// The device whose packets they are; needed when they may be those of several
    #[arg(long, add = complete::devices())]
    pub device: Option<String>,
    /// An address of the device, instead of those it is known to have; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub local: Vec<IpAddr>,
    /// Show all flows, not only the 20 with the most packets
    #[arg(long)]
    pub all: bool,
}
