//! What is wrong with a document: where, what, and how to mend it.

use std::fmt;

use super::tree::At;

/// A quota that is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Rules that apply to an interface.
    RulesPerInterface,
    /// Rules of a group that name a group, and how many may.
    GroupRules(usize),
    /// Groups of an interface.
    GroupsPerInterface,
    /// Addresses in a basic group.
    Addresses,
    /// Interfaces in an enterprise group.
    Interfaces,
    /// Groups whose rules name a prefix list.
    ListGroups,
    /// Entries of a prefix list.
    PrefixEntries,
    /// Entries that a prefix list may have, and how many that can be.
    PrefixSize(usize),
    /// Entries of a port range list.
    PortEntries,
    /// Entries that a port range list may have, and how many that can be.
    PortSize(usize),
}

/// How far a quota is passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Which.
    pub limit: Limit,
    /// Id of the object that passes it.
    pub id: String,
    /// What it has.
    pub count: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub at: At,
    /// The value's path, such as `security_groups[0].permissions[2].port_range`; may be empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The quota that is passed, if that is the problem.
    pub over: Option<Over>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// All problems of a document, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes one.
    pub fn add(&mut self, at: &At, path: &str, message: impl Into<String>, help: Option<String>) {
        self.0.push(Problem { at: at.clone(), path: path.into(), message: message.into(), help, over: None });
    }

    /// Says that the last one noted is of a quota: what passes it, and by how many it has.
    pub fn passes(&mut self, limit: Limit, id: &str, count: usize) {
        if let Some(last) = self.0.last_mut() {
            last.over = Some(Over { limit, id: id.to_owned(), count });
        }
    }

    /// Whether all of them are of quotas.
    pub fn are_of_quotas(&self) -> bool {
        self.0.iter().all(|p| p.over.is_some())
    }

    /// The value, if nothing was noted.
    ///
    /// # Errors
    /// What was noted, sorted by place.
    pub fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by(|a, b| a.at.cmp(&b.at));
        self.0.dedup();
        Err(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
