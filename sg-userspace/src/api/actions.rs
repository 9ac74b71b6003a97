//! What can be called: each action, whether it changes something, and what does it.
//!
//! # Layout
//! - `groups`, `rules`, `members`, `interfaces`, `instances`, `lists`, `labels`: the actions
//! - `admin`, `import`: what has no name for signed calls
//! - `common`: what they share

mod admin;
mod common;
mod groups;
mod import;
mod instances;
mod interfaces;
mod labels;
mod lists;
mod members;
mod rules;

use self::common::Answer;
use super::{draft::Draft, params::Params};

/// An action.
#[derive(Clone, Copy)]
pub struct Action {
    /// As clients name it.
    pub name: &'static str,
    /// Whether it changes something.
    pub writes: bool,
    /// Whether it must say its region.
    pub region: bool,
    /// What does it.
    pub run: fn(&mut Draft<'_>, &Params) -> Answer,
}

const fn read(name: &'static str, run: fn(&mut Draft<'_>, &Params) -> Answer) -> Action {
    Action { name, writes: false, region: true, run }
}

const fn write(name: &'static str, run: fn(&mut Draft<'_>, &Params) -> Answer) -> Action {
    Action { name, writes: true, region: true, run }
}

/// Without a region: what older clients send of it.
const fn anywhere(action: Action) -> Action {
    Action { region: false, ..action }
}

/// All of them.
pub const ACTIONS: &[Action] = &[
    write("CreateSecurityGroup", groups::create),
    write("DeleteSecurityGroup", groups::delete),
    read("DescribeSecurityGroups", groups::list),
    read("DescribeSecurityGroupAttribute", groups::attribute),
    read("DescribeSecurityGroupReferences", groups::references),
    write("ModifySecurityGroupAttribute", groups::modify),
    write("ModifySecurityGroupPolicy", groups::policy),
    write("AuthorizeSecurityGroup", rules::authorize),
    write("AuthorizeSecurityGroupEgress", rules::authorize_egress),
    write("RevokeSecurityGroup", rules::revoke),
    write("RevokeSecurityGroupEgress", rules::revoke_egress),
    write("ModifySecurityGroupRule", rules::modify),
    write("ModifySecurityGroupEgressRule", rules::modify_egress),
    anywhere(write("JoinSecurityGroup", members::join)),
    anywhere(write("LeaveSecurityGroup", members::leave)),
    write("CreateNetworkInterface", interfaces::create),
    write("DeleteNetworkInterface", interfaces::delete),
    write("AttachNetworkInterface", interfaces::attach),
    write("DetachNetworkInterface", interfaces::detach),
    read("DescribeNetworkInterfaces", interfaces::list),
    read("DescribeNetworkInterfaceAttribute", interfaces::attribute),
    write("ModifyNetworkInterfaceAttribute", interfaces::modify),
    read("DescribeInstances", instances::list),
    anywhere(write("ModifyInstanceAttribute", instances::modify)),
    write("CreatePrefixList", lists::create_prefix_list),
    write("ModifyPrefixList", lists::modify_prefix_list),
    write("DeletePrefixList", lists::delete_prefix_list),
    read("DescribePrefixLists", lists::prefix_lists),
    read("DescribePrefixListAttributes", lists::prefix_list_attributes),
    read("DescribePrefixListAssociations", lists::prefix_list_associations),
    write("CreatePortRangeList", lists::create_port_list),
    write("ModifyPortRangeList", lists::modify_port_list),
    write("DeletePortRangeList", lists::delete_port_list),
    read("DescribePortRangeLists", lists::port_lists),
    read("DescribePortRangeListEntries", lists::port_list_entries),
    read("DescribePortRangeListAssociations", lists::port_list_associations),
    write("TagResources", labels::tag),
    write("UntagResources", labels::untag),
    read("ListTagResources", labels::list),
    write("JoinResourceGroup", labels::join_resource_group),
    anywhere(read("DescribeRegions", labels::regions)),
    read("DescribeVpcs", labels::vpcs),
    read("DescribeVSwitches", labels::vswitches),
];

/// An action by its name.
pub fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|a| a.name == name)
}

/// An action by its name, as the administrator may call it: others have none of some.
pub fn find_as_administrator(name: &str) -> Option<&'static Action> {
    find(name).or_else(|| admin::ACTIONS.iter().find(|a| a.name == name))
}
