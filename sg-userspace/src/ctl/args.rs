//! What can be said to `sgctl`.
//!
//! # Layout
//! - [`groups`]: groups and their rules; [`lists`]: prefix lists and port lists
//! - [`members`]: instances and network interfaces
//! - [`documents`]: plan, apply, explain, lint, wait; [`kept`]: what was in force
//! - [`keys`]: access keys of the API; [`watch`]: packets as they are judged
//! - [`shadow`]: a candidate beside what is in force
//! - [`flows`]: live flows; [`stats`]: what was counted
//! - [`doctor`](mod@doctor): what this host lacks
//! - [`mod@replay`] of captures

pub mod doctor;
pub mod documents;
pub mod flows;
pub mod groups;
pub mod kept;
pub mod keys;
pub mod lists;
pub mod members;
pub mod replay;
pub mod shadow;
pub mod stats;
pub mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    doctor::Doctor,
    documents::{Apply, Diagnose, Explain, KernelHook, Lint, Plan, Wait, on_change},
    flows::Flows,
    groups::{Group, Rule},
    keys::Key,
    members::{Instance, Interface},
    replay::Replay,
    shadow::Shadow,
    stats::Stats,
    watch::Watch,
};
use self::{
    kept::{Diff, Restore, Rollback, Snapshot},
    lists::{List, Ports, Prefixes},
};
use super::complete::{self, Shell};

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

/// An account.
fn account(text: &str) -> Result<String, String> {
    if crate::api::call::is_account(text) { Ok(text.to_owned()) } else { Err("an account is 16 digits".into()) }
}

/// Whether a command that destroys something asks first: in one spelling, whatever it is.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Yes {
    /// Do not ask, though something goes for good
    #[arg(short, long)]
    pub yes: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate a document, show what it changes, and put it in force
    Apply(Apply),
    /// Keep a change that is on trial (apply --confirm)
    Confirm,
    /// Show what a document would change, live flows included
    Plan(Plan),
    /// Say which rule decides a flow, and why
    Explain(Explain),
    /// Say who reaches a device's services, and what opens those that are closed
    Diagnose(Diagnose),
    /// Send a capture through the kernel program: which packets a document would decide otherwise
    Replay(Replay),
    /// Say what is unwise or needless in a policy, and what to do about it
    Lint(Lint),
    /// Show how things stand: devices, documents, counters, and how full everything is
    Status {
        /// Show how full everything is, not only the fullest
        #[arg(long)]
        all: bool,
    },
    /// Live flows: list them, count them by remote, cut them
    Flows(Flows),
    /// Show what interfaces, groups and rules have counted, and which rules nobody uses
    Stats(Stats),
    /// Say what this host lacks for the protection to work, and what to do about it
    Doctor(Doctor),
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
    /// Show drops, new flows and cuts as they happen, with the rule and the reason
    Watch(Watch),
    /// A candidate that judges new flows beside what is in force, and changes nothing
    #[command(after_help = "Examples:
  sudo sgctl shadow start -f candidate.yaml     from now on
  sudo sgctl shadow report                      flows that it decides otherwise, by kind
  sudo sgctl shadow promote                     put it in force, as `sgctl apply` does

Only flows that begin are judged by both; packets of flows cost nothing more. The candidate
is planned anew when what is in force changes, and is kept over restarts of sgd.")]
    Shadow {
        /// What to do
        #[command(subcommand)]
        command: Shadow,
    },
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
        command: Snapshot,
    },
    /// Put back what was in force before
    #[command(after_help = "Examples:
  sudo sgctl rollback --plan          what that would change
  sudo sgctl rollback                 what is on trial, or else to the generation kept last
  sudo sgctl rollback 17 --group web  of generation 17, the rules of one group

What is put back is checked and applied as any change, and can be rolled back itself.
`sgctl snapshot list` shows what is kept.")]
    Rollback(Rollback),
    /// Show what is different between two kept generations
    Diff(Diff),
    /// Write all documents, and what is known beside them, to a file; the daemon goes on
    Backup {
        /// The file; - is standard output
        file: String,
    },
    /// Put a backup back
    Restore(Restore),
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is NAME=VALUE, such as RegionId=local")?;
    Ok((name.to_owned(), value.to_owned()))
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
