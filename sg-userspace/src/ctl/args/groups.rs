//! What can be said of groups and of their rules.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Yes, account, lists::Ports};
use crate::ctl::complete;

/// Security groups; each is named by its id, or by a name that only one has.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// All of them
    List,
    /// One, with its rules
    Show {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
    },
    /// Make one
    #[command(after_help = "Example:
  sudo sgctl group create web --open ssh@203.0.113.0/24 --open https@0.0.0.0/0 --open https@::/0")]
    Create {
        /// Its name
        name: String,
        /// normal or enterprise
        #[arg(long = "type", default_value = "normal")]
        kind: String,
        /// For people
        #[arg(long)]
        description: Option<String>,
        /// VPC it is in
        #[arg(long)]
        vpc: Option<String>,
        /// A service to let in: ssh, http, https, rdp, mysql, postgresql, redis or icmp, and from where
        #[arg(long, value_name = "SERVICE@PREFIX")]
        open: Vec<String>,
        /// The account that it belongs to; 16 digits [default: that of the configuration]
        #[arg(long, value_parser = account)]
        account: Option<String>,
    },
    /// Make the default group, unless it is there: everybody may ping, and reach TCP ports 22 and 3389
    #[command(after_help = "The default group is the one that the original puts instances into that name none.
Its rules have priority 100, so that any rule of yours stands before them. Let
nobody in but those who must:
  sudo sgctl group create admin --open ssh@203.0.113.0/24")]
    Default {
        /// VPC it is in
        #[arg(long)]
        vpc: Option<String>,
        /// Also TCP ports 80 and 443
        #[arg(long)]
        web: bool,
    },
    /// Delete one; says what stands in the way, or with --force what goes with it
    Delete {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// Also rules that name it, and its members' membership
        #[arg(long)]
        force: bool,
        /// Where members go that are in no other group
        #[arg(long, value_name = "GROUP", requires = "force", add = complete::groups())]
        move_to: Option<String>,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
    /// Give it another name; its id stays
    Rename {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// The new one
        name: String,
    },
    /// Describe it anew, or say whether its members reach each other
    Modify {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// For people
        #[arg(long, required_unless_present = "inner_access")]
        description: Option<String>,
        /// Whether members of it reach each other before any rule
        #[arg(long, value_parser = ["accept", "drop"])]
        inner_access: Option<String>,
    },
    /// Put tags on it; a tag that it has gets the new value
    Tag {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// Tags
        #[arg(required = true, value_name = "KEY[=VALUE]", value_parser = tag)]
        tags: Vec<(String, String)>,
    },
    /// Take tags off it
    Untag {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// Which
        #[arg(required_unless_present = "all", value_name = "KEY")]
        keys: Vec<String>,
        /// All that it has
        #[arg(long, conflicts_with = "keys")]
        all: bool,
    },
    /// Which groups have rules that name it
    References {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
    },
    /// Make a copy, of a group or of a file that was exported
    Clone {
        /// Id, name, or file
        #[arg(add = complete::groups())]
        group: String,
        /// Name of the copy
        name: String,
        /// VPC of the copy
        #[arg(long)]
        vpc: Option<String>,
        /// What the copy of a file is, normal or enterprise [default: normal]; that of a group is of its type
        #[arg(long = "type", value_name = "TYPE", value_parser = ["normal", "enterprise"])]
        kind: Option<String>,
        /// Without its rules
        #[arg(long)]
        without_rules: bool,
        /// With its tags
        #[arg(long)]
        tags: bool,
    },
    /// Write its rules to a file, or to standard output
    Export {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// How
        #[arg(long, value_enum, default_value = "json")]
        format: crate::ctl::rules_file::Format,
        /// Directory of the file, which is named as the console of the original does
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Put rules of a file into it; says of each what becomes of it
    Import {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// JSON or CSV
        file: PathBuf,
        /// Only say what would become of them
        #[arg(long)]
        preview: bool,
    },
    /// Let nobody delete it
    Protect {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// Not any more
        #[arg(long)]
        off: bool,
    },
    /// Let only the administrator change it
    Manage {
        /// Its id or name
        #[arg(add = complete::groups())]
        group: String,
        /// Not any more
        #[arg(long)]
        off: bool,
    },
}

/// `KEY[=VALUE]`.
fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("a tag is KEY=VALUE, or KEY".into()) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Rules of a group.
#[derive(Debug, Subcommand)]
pub enum Rule {
    /// Add one; in force when this ends
    #[command(after_help = "Examples:
  sudo sgctl rule add web ingress tcp 443/443 0.0.0.0/0
  sudo sgctl rule add db ingress tcp 5432 app
  sudo sgctl rule add web ingress tcp web-ports office
  sudo sgctl rule add web egress all -1/-1 198.51.100.7 --policy drop --priority 2")]
    Add {
        /// Id or name of the group
        #[arg(add = complete::groups())]
        group: String,
        /// ingress or egress
        #[arg(value_parser = ["ingress", "egress"])]
        direction: String,
        /// TCP, UDP, ICMP, ICMPv6, GRE, ALL or a number
        protocol: String,
        /// First and last port, such as 80/80; or a port list, by id or name; -1/-1 where there are none
        #[arg(allow_hyphen_values = true, add = complete::lists::<Ports>())]
        ports: String,
        /// Prefix or address; or a group or a prefix list, by id or name
        #[arg(add = complete::remotes())]
        remote: String,
        /// accept or drop
        #[arg(long, default_value = "accept")]
        policy: String,
        /// 1, the first, to 100
        #[arg(long, default_value_t = 1)]
        priority: u8,
        /// For people
        #[arg(long)]
        description: Option<String>,
    },
    /// Take some out
    Remove {
        /// Id or name of the group
        #[arg(add = complete::groups())]
        group: String,
        /// Ids of the rules, as `sgctl group show` lists them
        #[arg(required = true)]
        rules: Vec<String>,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
}
