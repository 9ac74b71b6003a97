//! What can be said of counters.

use clap::Args;

use crate::ctl::complete;

/// What interfaces, groups and rules have counted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl stats --group web
  sudo sgctl stats --unused             rules that no packet has matched, and for how long

A rule counts the packets that it decides: those that begin a flow, and those that it drops. The
packets of a flow that it has let in count for the interface alone. Counters of rules outlive sgd,
the machine's restarts, and every change that keeps the rule. They are kept once a minute: a machine
that crashes takes what its last minute counted with it. A last hit is noted within a second (ten, if
more than 8192 rules are in force), and one while sgd was not running when it starts. A rule that was
not in force on any device for a while was not watched then.

Counters of interfaces are the kernel's: they outlive sgd, and begin anew with the machine.")]
pub struct Stats {
    /// This device, and its rules
    #[arg(long, add = complete::devices())]
    pub device: Option<String>,
    /// This group by its id or name, its rules, and the devices in it
    #[arg(long, add = complete::groups())]
    pub group: Option<String>,
    /// Only rules that no packet has matched since they are counted
    #[arg(long)]
    pub unused: bool,
}
