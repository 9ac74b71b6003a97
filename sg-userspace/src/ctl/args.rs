//! What can be said to `sgctl`.
//!
//! # Layout
//! - [`groups`]: groups and their rules; [`lists`]: prefix lists and port lists
//! - [`members`]: instances and network interfaces

pub mod groups;
pub mod lists;
pub mod members;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use self::lists::{List, Ports, Prefixes};
pub use self::{
    groups::{Group, Rule},
    members::{Instance, Interface},
};
use super::{
    complete::{self, Shell},
    snapshot,
};
use crate::dataplane::engine::OnChange;

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
    /// Validate a document, show what it changes, and put it in force
    Apply(Apply),
    /// Show what a document would change, live flows included
    Plan(Plan),
    /// Say which rule decides a flow, and why
    Explain(Explain),
    /// Say what is unwise or needless in a policy, and what to do about it
    Lint(Lint),
    /// Show how things stand: devices, documents, counters
    Status,
    /// Instances: list, show, and their groups
    #[command(after_help = "Example:
  sudo sgctl instance set-groups db-1 db monitoring")]
    Instance {
        /// What to do
        #[command(subcommand)]
        command: Instance,
    },
    /// Network interfaces: list, show, and their groups
    #[command(after_help = "Examples:
  sudo sgctl interface show eth0 --rules
  sudo sgctl interface join tap7 monitoring")]
    Interface {
        /// What to do
        #[command(subcommand)]
        command: Interface,
    },
    /// Wait until devices are protected
    Wait(Wait),
    /// Security groups: list, show, make, delete, clone, export, import
    Group {
        /// What to do
        #[command(subcommand)]
        command: Group,
    },
    /// Rules of a group: add, remove
    Rule {
        /// What to do
        #[command(subcommand)]
        command: Rule,
    },
    /// Prefix lists: list, show, make, change, delete
    #[command(after_help = "Examples:
  sudo sgctl prefix-list create office --entry 203.0.113.0/24=head-office --entry 198.51.100.7
  sudo sgctl rule add web ingress tcp 22 office
  sudo sgctl prefix-list add office 192.0.2.0/24
  sudo sgctl prefix-list remove office 198.51.100.7")]
    PrefixList {
        /// What to do
        #[command(subcommand)]
        command: List<Prefixes>,
    },
    /// Port lists: list, show, make, change, delete
    #[command(after_help = "Examples:
  sudo sgctl port-list create web-ports --entry 80=http --entry 443=https --entry 8000-8999
  sudo sgctl rule add web ingress tcp web-ports 0.0.0.0/0
  sudo sgctl port-list remove web-ports 8000-8999

A range of ports is 22, 22-25 or 22/25.")]
    PortList {
        /// What to do
        #[command(subcommand)]
        command: List<Ports>,
    },
    /// Access keys of the control API
    Key {
        /// What to do
        #[command(subcommand)]
        command: Key,
    },
    /// Call an action of the control API, as the administrator
    #[command(after_help = "Examples:
  sudo sgctl api CreateSecurityGroup SecurityGroupName=web
  sudo sgctl api AuthorizeSecurityGroup SecurityGroupId=web Permissions.1.IpProtocol=tcp \\
      Permissions.1.PortRange=443/443 Permissions.1.SourceCidrIp=0.0.0.0/0
  sudo sgctl api DescribeSecurityGroupAttribute SecurityGroupId=web

Objects are named by id, or by a name that only one has. Every action and its
parameters: docs/api.md. Exit status: 0 done, 1 refused, 2 usage.")]
    Api {
        /// Its name
        #[arg(add = complete::actions())]
        action: String,
        /// Its parameters
        #[arg(value_name = "NAME=VALUE", value_parser = pair)]
        parameters: Vec<(String, String)>,
    },
    /// Write what a shell needs to complete commands, and names of what is in force
    #[command(after_help = "Where it goes:
  bash  source <(sgctl completions bash)   in ~/.bashrc
  zsh   source <(sgctl completions zsh)    in ~/.zshrc, after compinit
  fish  sgctl completions fish | source    in ~/.config/fish/config.fish

Names are completed for those who may use the daemon's socket.")]
    Completions {
        /// Which
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write a document in force as YAML; applying it changes nothing
    Export {
        /// Its name; needed when there are several
        #[arg(add = complete::documents())]
        document: Option<String>,
    },
    /// What was in force: list, keep, show, put back
    Snapshot {
        /// What to do
        #[command(subcommand)]
        command: snapshot::Command,
    },
    /// Put back what was in force before
    #[command(after_help = "Examples:
  sudo sgctl rollback --plan          what that would change
  sudo sgctl rollback                 the generation that was kept last
  sudo sgctl rollback 17 --group web  of generation 17, the rules of one group

What is put back is checked and applied as any change, and can be rolled back itself.
`sgctl snapshot list` shows what is kept.")]
    Rollback(snapshot::Rollback),
    /// Show what is different between two kept generations
    Diff(snapshot::Diff),
    /// Write all documents, and what is known beside them, to a file; the daemon goes on
    Backup {
        /// The file; - is standard output
        file: String,
    },
    /// Put a backup back
    Restore(snapshot::Restore),
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is NAME=VALUE, such as RegionId=local")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Access keys of the control API.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make one, and show its secret, this once
    Create {
        /// It may only look
        #[arg(long)]
        read_only: bool,
        /// The account it belongs to; 16 digits
        #[arg(long)]
        account: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Show them, without their secrets
    List,
    /// Refuse calls of one
    Disable {
        /// Its id
        id: String,
    },
    /// Take calls of one again
    Enable {
        /// Its id
        id: String,
    },
    /// Delete one
    Delete {
        /// Its id
        id: String,
    },
}

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

/// Put a document in force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo sgctl apply -f policy.yaml
  sudo sgctl apply -f groups.yaml -f interfaces.yaml --yes
  generate-policy | sudo sgctl apply -f -

Exit status: 0 done, 1 refused (nothing was changed), 2 usage.")]
pub struct Apply {
    /// What, and how
    #[command(flatten)]
    pub plan: Plan,
    /// Do not ask: delete objects that left the document, even if this SSH connection is dropped
    #[arg(short, long)]
    pub yes: bool,
    /// What becomes of live flows that the new rules deny: cut, keep, or drain:SECONDS
    #[arg(long, value_name = "HOW", default_value = "cut", value_parser = on_change)]
    pub on_change: OnChange,
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
  sgctl explain --reasons

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
    /// Ask the kernel program with the compiled tables (needs root)
    #[arg(long)]
    pub kernel: bool,
    /// Which kernel program
    #[arg(long, value_enum, default_value_t = KernelHook::Tc, requires = "kernel")]
    pub hook: KernelHook,
    /// List every reason a packet can have
    #[arg(long)]
    pub reasons: bool,
    /// One flow: DEVICE DIRECTION PROTOCOL LOCAL REMOTE, the last two with `:port` where there are ports
    #[arg(value_name = "FLOW", num_args = 0..=5)]
    pub flow: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    #[test]
    fn arguments_fit_together() {
        Arguments::command().debug_assert();
        let kind = |line: &str| Arguments::try_parse_from(line.split(' ')).map(drop).map_err(|e| e.kind());
        assert_eq!(kind("sgctl prefix-list create office --family ipv6 --entry 2001:db8::/32=here"), Ok(()));
        assert_eq!(kind("sgctl port-list create p --family ipv6"), Err(ErrorKind::UnknownArgument));
        assert_eq!(kind("sgctl port-list create p --entry 10.0.0.0/8"), Err(ErrorKind::ValueValidation));
        assert_eq!(kind("sgctl prefix-list add office 22"), Err(ErrorKind::ValueValidation));
        assert_eq!(kind("sgctl prefix-list modify office"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(kind("sgctl port-list modify p --description ports"), Ok(()));
    }
}
