//! What can be said of prefix lists and of port lists: the same, but for what an
//! entry is.

use clap::{Args, Subcommand};

use super::{Yes, account};
use crate::{ctl::complete, validate::parse};

/// How a kind of list is named.
#[derive(Debug)]
pub struct Words {
    /// For people.
    pub what: &'static str,
    /// The command.
    pub command: &'static str,
    /// In names of the API's actions and fields.
    pub api: &'static str,
    /// The field of an entry.
    pub entry: &'static str,
    /// The action that lists entries.
    pub entries: &'static str,
}

/// A kind of list. Its fields are what is said of a new one beside what is said of both kinds.
pub trait Kind: Args + std::fmt::Debug + 'static {
    /// How it is named.
    const WORDS: Words;

    /// An entry as it is kept.
    ///
    /// # Errors
    /// It is none; how it would be written.
    fn entry(text: &str) -> Result<String, String>;

    /// The family of a new list, if this kind has families.
    fn family(&self, entries: &[Entry]) -> Option<&'static str>;
}

/// The family of a prefix.
pub fn family_of(prefix: &str) -> &'static str {
    if prefix.contains(':') { "IPv6" } else { "IPv4" }
}

/// Prefixes of one family.
#[derive(Clone, Debug, Default, Args)]
pub struct Prefixes {
    /// IPv4 or IPv6; that of its entries when absent
    #[arg(long, value_parser = ["IPv4", "IPv6"], ignore_case = true)]
    pub family: Option<String>,
}

impl Kind for Prefixes {
    const WORDS: Words = Words {
        what: "prefix list",
        command: "prefix-list",
        api: "PrefixList",
        entry: "Cidr",
        entries: "DescribePrefixListAttributes",
    };

    fn entry(text: &str) -> Result<String, String> {
        parse::list_cidr(text, family_of(text) == "IPv4").map(|prefix| prefix.to_string())
    }

    fn family(&self, entries: &[Entry]) -> Option<&'static str> {
        match &self.family {
            Some(said) if said.eq_ignore_ascii_case("IPv6") => Some("IPv6"),
            Some(_) => Some("IPv4"),
            None => Some(entries.first().map_or("IPv4", |e| family_of(&e.value))),
        }
    }
}

/// Ranges of ports.
#[derive(Clone, Debug, Default, Args)]
pub struct Ports {}

impl Kind for Ports {
    const WORDS: Words = Words {
        what: "port list",
        command: "port-list",
        api: "PortRangeList",
        entry: "PortRange",
        entries: "DescribePortRangeListEntries",
    };

    fn entry(text: &str) -> Result<String, String> {
        range(text)
    }

    fn family(&self, _: &[Entry]) -> Option<&'static str> {
        None
    }
}

/// A range of ports as it is kept; `22` and `22-25` are ranges, too.
///
/// # Errors
/// It is none; how it would be written.
pub fn range(text: &str) -> Result<String, String> {
    let (first, last) = text.split_once(['/', '-']).unwrap_or((text, text));
    match parse::ports(&format!("{first}/{last}"))? {
        Some((first, last)) => Ok(format!("{first}/{last}")),
        None => Err("a port list has ports from 1 to 65535".into()),
    }
}

/// An entry of a new list, or a new one of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A prefix, or a range of ports.
    pub value: String,
    /// For people.
    pub description: Option<String>,
}

/// `VALUE[=DESCRIPTION]`.
fn entry<K: Kind>(text: &str) -> Result<Entry, String> {
    let (value, description) = match text.split_once('=') {
        Some((value, description)) => (value, Some(description)),
        None => (text, None),
    };
    if description.is_some_and(|d| !(2..=32).contains(&d.chars().count())) {
        return Err("an entry's description has 2 to 32 characters".into());
    }
    Ok(Entry { value: K::entry(value)?, description: description.map(str::to_owned) })
}

/// Lists of one kind; each is named by its id, or by a name that only one has.
#[derive(Debug, Subcommand)]
pub enum List<K: Kind> {
    /// All of them
    List,
    /// One, with its entries, and the groups whose rules name it
    Show {
        /// Its id or name
        #[arg(add = complete::lists::<K>())]
        list: String,
    },
    /// Make one
    Create {
        /// Its name
        name: String,
        /// An entry, and what it is for people
        #[arg(long, value_name = "ENTRY[=DESCRIPTION]", value_parser = entry::<K>)]
        entry: Vec<Entry>,
        /// Entries that it may ever have; a rule that names it counts as so many [default: 20, or as many as it has]
        #[arg(long, value_name = "N")]
        max_entries: Option<u16>,
        /// For people
        #[arg(long)]
        description: Option<String>,
        /// The account that it belongs to; 16 digits [default: that of the configuration]
        #[arg(long, value_parser = account)]
        account: Option<String>,
        /// What only this kind has.
        #[command(flatten)]
        kind: K,
    },
    /// Put entries in, or describe them anew; in force when this ends
    Add {
        /// Its id or name
        #[arg(add = complete::lists::<K>())]
        list: String,
        /// Entries, and what they are for people
        #[arg(required = true, value_name = "ENTRY[=DESCRIPTION]", value_parser = entry::<K>)]
        entries: Vec<Entry>,
    },
    /// Take entries out; in force when this ends
    Remove {
        /// Its id or name
        #[arg(add = complete::lists::<K>())]
        list: String,
        /// Entries, as `show` lists them
        #[arg(required = true, value_name = "ENTRY", value_parser = K::entry)]
        entries: Vec<String>,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
    /// Name or describe it anew
    Modify {
        /// Its id or name
        #[arg(add = complete::lists::<K>())]
        list: String,
        /// Its new name
        #[arg(long, required_unless_present = "description")]
        name: Option<String>,
        /// For people
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete it; says which rules stand in the way
    Delete {
        /// Its id or name
        #[arg(add = complete::lists::<K>())]
        list: String,
        /// Whether to ask.
        #[command(flatten)]
        yes: Yes,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_written_in_one_way() {
        for (text, kept) in [("22", "22/22"), ("22/22", "22/22"), ("22-25", "22/25"), ("0022/25", "22/25")] {
            assert_eq!(Ports::entry(text).as_deref(), Ok(kept), "{text}");
        }
        for text in ["", "0", "25-22", "22/25/26", "-1/-1", "65536", "ssh", "22-"] {
            assert!(Ports::entry(text).is_err(), "{text}");
        }
        assert!(Ports::entry("25-22").unwrap_err().contains("write 22/25"));
        for (text, kept) in
            [("192.0.2.7", "192.0.2.7/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("2001:DB8:0::/32", "2001:db8::/32")]
        {
            assert_eq!(Prefixes::entry(text).as_deref(), Ok(kept), "{text}");
        }
        assert!(Prefixes::entry("10.0.0.1/8").unwrap_err().contains("write 10.0.0.0/8"));
        assert!(Prefixes::entry("office").is_err());
    }

    #[test]
    fn an_entry_may_say_what_it_is() {
        let parsed = entry::<Prefixes>("10.0.0.0/8=head office = here").unwrap();
        assert_eq!((parsed.value.as_str(), parsed.description.as_deref()), ("10.0.0.0/8", Some("head office = here")));
        assert_eq!(entry::<Ports>("22").unwrap().description, None);
        assert!(entry::<Ports>("22=x").is_err() && entry::<Ports>("22=").is_err());
    }

    #[test]
    fn a_list_has_the_family_of_its_entries() {
        let of = |family: Option<&str>, entries: &[&str]| {
            let entries: Vec<Entry> = entries.iter().map(|e| entry::<Prefixes>(e).unwrap()).collect();
            Prefixes { family: family.map(str::to_owned) }.family(&entries)
        };
        assert_eq!(of(None, &[]), Some("IPv4"));
        assert_eq!(of(None, &["::1"]), Some("IPv6"));
        assert_eq!(of(Some("ipv6"), &["10.0.0.0/8"]), Some("IPv6"));
        assert_eq!(Ports {}.family(&[]), None);
    }
}
