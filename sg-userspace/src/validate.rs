//! Document to model: every problem at once, with where it stands and how to
//! mend it. What comes out is consistent; nothing is skipped.
//!
//! # Layout
//! - [`parse`]: texts to values
//! - [`names`]: references to objects
//! - `groups`, `lists`, `interfaces`: one kind of object each
//! - [`usage`]: what of the quotas is used
//! - [`Valid`]: documents that are good, and what a change leaves of the work on them

mod groups;
mod interfaces;
mod lists;
pub mod names;
pub mod parse;
pub mod usage;
mod valid;

pub use valid::Valid;

use crate::{
    document::{Document, Problems},
    model::Model,
};

/// Bounds an administrator can raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Rules of one interface, lists counted with their `max_entries`.
    pub rules_per_interface: usize,
    /// Rules of a basic group whose object is a group.
    pub group_rules_per_group: usize,
    /// Groups of one interface.
    pub groups_per_interface: usize,
    /// Addresses in a basic group.
    pub addresses_per_normal_group: usize,
    /// Interfaces in an enterprise group.
    pub interfaces_per_enterprise_group: usize,
    /// Entries of a prefix list.
    pub prefix_list_entries: usize,
    /// Entries of a port range list.
    pub port_list_entries: usize,
    /// Groups whose rules name one prefix list.
    pub groups_per_prefix_list: usize,
}

impl Quotas {
    /// No bounds.
    pub const UNBOUNDED: Self = Self {
        rules_per_interface: usize::MAX,
        group_rules_per_group: usize::MAX,
        groups_per_interface: usize::MAX,
        addresses_per_normal_group: usize::MAX,
        interfaces_per_enterprise_group: usize::MAX,
        prefix_list_entries: usize::MAX,
        port_list_entries: usize::MAX,
        groups_per_prefix_list: usize::MAX,
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            rules_per_interface: 1000,
            group_rules_per_group: 20,
            groups_per_interface: 10,
            addresses_per_normal_group: 6000,
            interfaces_per_enterprise_group: 65_536,
            prefix_list_entries: 200,
            port_list_entries: 2000,
            groups_per_prefix_list: 1000,
        }
    }
}

/// Validates a whole document.
///
/// # Errors
/// Every problem of it.
pub fn validate(document: &Document, quotas: &Quotas) -> Result<Model, Problems> {
    let mut problems = Problems::default();
    let names = names::Names::of(document, &mut problems);
    validate_named(document, &names, quotas, problems)
}

/// The same, of a document in which everything is called so.
fn validate_named(
    document: &Document,
    names: &names::Names,
    quotas: &Quotas,
    mut problems: Problems,
) -> Result<Model, Problems> {
    let model = model(document, names, quotas, &mut problems);
    problems.or(model)
}

/// What a document means, as far as it is good: wholly, where nothing but quotas is passed.
fn model(document: &Document, names: &names::Names, quotas: &Quotas, problems: &mut Problems) -> Model {
    let model = Model {
        prefix_lists: lists::prefix_lists(document, names, quotas, problems),
        port_lists: lists::port_lists(document, names, quotas, problems),
        groups: groups::groups(document, names, quotas, problems),
        interfaces: interfaces::interfaces(document, names, quotas, problems),
        failsafe: None,
    };
    interfaces::instances(document, names, problems);
    if problems.are_of_quotas() {
        interfaces::quotas(document, &model, quotas, problems);
    }
    model
}

#[cfg(test)]
mod tests;
