//! What can be said to `sgctl`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Security groups for this host.
#[derive(Debug, Parser)]
#[command(name = "sgctl", version, max_term_width = 100)]
pub struct Arguments {
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The daemon's socket
    #[arg(long, global = true, env = "SG_SOCKET", default_value = crate::daemon::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For files.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say which rule decides a flow, and why
    Explain(Explain),
}

/// Say which rule decides a flow, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sgctl explain -f policy.yaml --flows flows.jsonl -o json
  sgctl explain -f policy.yaml eth0 ingress tcp 10.0.0.5:22 192.0.2.7:40000
  sudo sgctl explain -f policy.yaml --flows flows.jsonl --kernel
  sgctl explain --reasons

A line of a flows file:
  {\"device\":\"eth0\",\"direction\":\"ingress\",\"protocol\":\"tcp\",\"local\":\"10.0.0.5\",
   \"remote\":\"192.0.2.7\",\"local_port\":22,\"remote_port\":40000}")]
pub struct Explain {
    /// Policy document; several are one document, `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<String>,
    /// Flows, one JSON object a line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "flow")]
    pub flows: Option<String>,
    /// Ask the kernel program with the compiled tables (needs root)
    #[arg(long)]
    pub kernel: bool,
    /// Which kernel program
    #[arg(long, value_enum, default_value_t = KernelHook::Tc, requires = "kernel")]
    pub hook: KernelHook,
    /// List every reason a packet can have
    #[arg(long)]
    pub reasons: bool,
    /// One flow: device, direction, protocol, local[:port], remote[:port] (IPv6 with port: [address]:port)
    #[arg(value_name = "FLOW", num_args = 0..=5)]
    pub flow: Vec<String>,
}

/// Which kernel program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelHook {
    /// Both directions.
    Tc,
    /// Inbound of the host side; the rest at TC.
    Xdp,
}
