//! What can be said of whole documents: plan, apply, explain, lint; and of waiting until
//! they are in force.

use std::net::IpAddr;

use clap::{Args, ValueEnum, ValueHint};
use ipnet::IpNet;

use super::Yes;
use crate::{
    ctl::{apply::Confirm, complete},
    daemon::control::TRIAL_BOUNDS,
    dataplane::engine::OnChange,
};

/// Wait until devices are protected.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl wait tap7 && start-the-machine-behind-tap7
  sudo sgctl wait eth0 eth1 --for 2m

Exit status: 0 all are protected, 1 one is not (which, and why), 2 usage.")]
pub struct Wait {
    /// Names of devices, which need not be there yet
    #[arg(required = true, value_name = "DEVICE", add = complete::devices())]
    pub devices: Vec<String>,
    /// How long: seconds, or 30s, 2m, 1h
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = seconds)]
    pub patience: u64,
}

fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    seconds.filter(|s| *s <= 86_400).ok_or_else(|| "a time such as 30s, 2m or 1h, at most 24h".into())
}

/// How long a change is tried out, as it is said.
///
/// # Errors
/// Neither `off` nor a time within bounds.
pub fn confirm(text: &str) -> Result<Confirm, String> {
    if text == "off" {
        return Ok(Confirm::Off);
    }
    let within = seconds(text).ok().and_then(|s| u32::try_from(s).ok()).filter(|s| TRIAL_BOUNDS.contains(s));
    within.map(Confirm::Within).ok_or_else(|| "off, or a time from 3s to 1h, such as 60s or 5m".into())
}

/// How other rules are put in force.
#[derive(Clone, Copy, Debug, Args)]
pub struct Manner {
    /// Take it back after this time unless `sgctl confirm` keeps it: 60s, 5m, or off. By
    /// default 60s if your own SSH connection would be dropped
    #[arg(long, value_name = "TIME", value_parser = confirm)]
    pub confirm: Option<Confirm>,
    /// What becomes of live flows that the new rules deny: cut, keep (until the next change of
    /// their interface's rules or members, which decides anew), or drain:SECONDS
    #[arg(long, value_name = "HOW", default_value = "cut", value_parser = on_change)]
    pub on_change: OnChange,
    /// Reset TCP connections that the new rules deny before they are cut, so that both ends know
    /// at once; forwarded flows, and those of guests that do not answer, are only cut, and counted.
    /// Not on trial, for that cannot be taken back
    #[arg(long)]
    pub reset: bool,
}

impl Manner {
    /// What becomes of live flows that the new rules deny.
    ///
    /// # Errors
    /// They are to be reset, and not to be cut.
    pub fn on_change(&self) -> anyhow::Result<OnChange> {
        match (self.reset, self.on_change) {
            (false, mode) => Ok(mode),
            (true, OnChange::Cut) => Ok(OnChange::Reset),
            (true, _) => {
                anyhow::bail!("--reset goes with --on-change cut: what lives on is not reset; nothing was changed")
            }
        }
    }
}

/// Put a document in force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl apply -f policy.yaml
  sudo sgctl apply -f groups.yaml -f interfaces.yaml --yes
  generate-policy | sudo sgctl apply -f -
  sudo sgctl apply -f policy.yaml --confirm 60s    try it out; then `sgctl confirm`
  sudo sgctl apply -f policy.yaml --reset          both ends of what is cut know at once

Exit status: 0 done, 1 refused (nothing was changed), 2 usage.")]
pub struct Apply {
    /// What, and how
    #[command(flatten)]
    pub plan: Plan,
    /// Do not ask: delete objects that left the document, even if this SSH connection is dropped
    #[arg(short, long)]
    pub yes: bool,
    /// How the rules are put in force.
    #[command(flatten)]
    pub manner: Manner,
    /// Refuse if the policy has another generation (see `sgctl status`)
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
}

/// Show what a document would change.
#[derive(Debug, Args)]
pub struct Plan {
    /// Policy document; several are one document, `-` is standard input
    #[arg(short, long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub file: Vec<String>,
    /// Take over objects that belong to another document
    #[arg(long)]
    pub adopt: bool,
    /// Show every kind of packet that is decided otherwise, not only the 20 largest of each device
    #[arg(long)]
    pub all: bool,
}

/// What becomes of live flows that a change denies, as it is said.
///
/// # Errors
/// None of the words.
pub fn on_change(text: &str) -> Result<OnChange, String> {
    match text.split_once(':') {
        None if text == "cut" => Ok(OnChange::Cut),
        None if text == "keep" => Ok(OnChange::Keep),
        Some(("drain", seconds)) => {
            let seconds = seconds.parse().ok().filter(|s| (1..=86_400).contains(s));
            seconds.map(OnChange::Drain).ok_or_else(|| "drain takes 1 to 86400 seconds".into())
        }
        _ => Err("cut, keep, or drain:SECONDS".into()),
    }
}

/// Say which rule decides a flow, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sgctl explain -f policy.yaml --flows flows.jsonl -o json
  sgctl explain -f policy.yaml eth0 ingress tcp 10.0.0.5:22 192.0.2.7:40000
  sudo sgctl explain -f policy.yaml --flows flows.jsonl --kernel
  sudo sgctl explain eth0 ingress tcp 10.0.0.5:22 192.0.2.7:40000 --order
  sgctl explain --reasons

Without -f, by what is in force, the failsafe included; a file alone has none.

A line of a flows file:
  {\"device\":\"eth0\",\"direction\":\"ingress\",\"protocol\":\"tcp\",\"local\":\"10.0.0.5\",
   \"remote\":\"192.0.2.7\",\"local_port\":22,\"remote_port\":40000}")]
pub struct Explain {
    /// Policy document; several are one document, `-` is standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Vec<String>,
    /// Flows, one JSON object a line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "flow", value_hint = ValueHint::FilePath)]
    pub flows: Option<String>,
    /// Ask the kernel program: with -f over tables compiled from the document (needs root), else over
    /// those in force, and say where it is not what the policy says; it makes no flow and counts nothing
    #[arg(long)]
    pub kernel: bool,
    /// Which kernel program
    #[arg(long, value_enum, default_value_t = KernelHook::Tc, requires = "kernel")]
    pub hook: KernelHook,
    /// Show every rule in the order in which they are looked at, and what it says of the flow
    #[arg(long, conflicts_with = "flows")]
    pub order: bool,
    /// List every reason a packet can have
    #[arg(long)]
    pub reasons: bool,
    /// One flow: DEVICE DIRECTION PROTOCOL LOCAL REMOTE, the last two with `:port` where there are ports
    #[arg(value_name = "FLOW", num_args = 0..=5)]
    pub flow: Vec<String>,
}

/// Say who reaches a device's services.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl diagnose eth0                                  ping, ssh, http, https, rdp, 8080, from everywhere
  sudo sgctl diagnose eth0 --from 203.0.113.0/24            the same, from there
  sudo sgctl diagnose eth0 tcp 5432 --from 10.0.0.0/8       one service
  sudo sgctl diagnose eth0 tcp 5432 --from 10.0.0.0/8 --open    and let them in, by a rule of its first group

Exit status: 0 done, 1 refused, or a rule forbids what is to be opened, 2 usage.")]
pub struct Diagnose {
    /// The device
    #[arg(add = complete::devices())]
    pub device: String,
    /// Protocol of a service
    pub protocol: Option<String>,
    /// Its port, if the protocol has ports
    pub port: Option<u16>,
    /// Who wants to reach it: an address or a prefix
    #[arg(long, value_name = "SOURCE", value_parser = source)]
    pub from: Option<IpNet>,
    /// Put in the rule that lets them in, with a priority that wins
    #[arg(long, requires = "protocol")]
    pub open: bool,
    /// Whether to ask before that.
    #[command(flatten)]
    pub yes: Yes,
}

/// Who is meant: an address or a prefix.
///
/// # Errors
/// Neither.
pub fn source(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.map(|net| net.trunc()).ok_or_else(|| "an address or a prefix, such as 203.0.113.7 or 10.0.0.0/8".into())
}

/// Say what is unwise or needless in a policy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sgctl lint -f policy.yaml             needs no daemon
  sudo sgctl lint                       what is in force
  sgctl lint -f policy.yaml --strict    for tests: exit status 1 if there is a warning

Exit status: 0 done, 1 a warning and --strict, or the document is refused, 2 usage.")]
pub struct Lint {
    /// Policy document instead of what is in force; several are one document, `-` is standard input
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Vec<String>,
    /// Exit status 1 if there is any warning
    #[arg(long)]
    pub strict: bool,
}

/// Which kernel program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelHook {
    /// Both directions.
    Tc,
    /// Inbound of the host side; the rest at TC.
    Xdp,
}
