//! A change in the making: the documents as they are, found by id, and as they
//! would be after a call.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    error::{self, ApiError},
    facts::{Fact, Facts},
};
use crate::{
    dataplane::machine::Resolved,
    document::{Document, Group, Instance, NetworkInterface, PortRangeList, PrefixList},
    validate::{
        Quotas, Valid,
        names::{DEFAULT_VPC, Kind, Names},
    },
};

/// The document of what came by the API.
pub use crate::document::API_NAME as OWNER;

/// The VSwitch of a VPC: each has one, `vsw-x` of `vpc-x`.
pub fn vswitch_of(vpc: &str) -> String {
    format!("vsw-{}", vpc.strip_prefix("vpc-").unwrap_or(vpc))
}

/// What does not change from call to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// The region.
    pub region: String,
    /// Whether other regions are refused.
    pub strict_region: bool,
    /// The default account.
    pub account: String,
    /// VPCs beside the default one.
    pub vpcs: Vec<String>,
    /// Groups that may be made.
    pub max_groups: usize,
    /// Prefix lists that may be made.
    pub max_lists: usize,
    /// Port range lists that may be made.
    pub max_port_lists: usize,
    /// Bounds of what documents hold.
    pub quotas: Quotas,
}

impl Default for Here {
    fn default() -> Self {
        Self {
            region: "local".into(),
            strict_region: false,
            account: "1000000000000001".into(),
            vpcs: Vec::new(),
            max_groups: 1000,
            max_lists: 100,
            max_port_lists: 100,
            quotas: Quotas::default(),
        }
    }
}

/// See the module.
pub struct Draft<'a> {
    /// All documents.
    pub documents: Cow<'a, [Document]>,
    /// What is known beside them.
    pub facts: Cow<'a, Facts>,
    /// What does not change.
    pub here: &'a Here,
    /// The policy before the change.
    pub policy: &'a Valid,
    /// What the documents mean on this machine.
    pub resolved: &'a Resolved,
    /// Names, ids and places of everything before the change, all documents in their order.
    pub names: &'a Names,
    /// Whose call it is; the administrator's when absent.
    pub account: Option<&'a str>,
    /// Seconds since 1970, UTC.
    pub now: u64,
}

/// Seconds since 1970 as the API writes them.
pub fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A new id.
pub fn new_id(prefix: &str) -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = uuid::Uuid::new_v4().as_u128();
    let digits = (0..20).map(|_| {
        let letter = LETTERS[(number % 36) as usize];
        number /= 36;
        char::from(letter)
    });
    format!("{prefix}-{}", digits.collect::<String>())
}

impl<'a> Draft<'a> {
    /// Over a policy as it is.
    pub fn new(
        policy: &'a Valid,
        facts: &'a Facts,
        here: &'a Here,
        resolved: &'a Resolved,
        account: Option<&'a str>,
        now: u64,
    ) -> Self {
        Self {
            documents: Cow::Borrowed(policy.documents()),
            facts: Cow::Borrowed(facts),
            here,
            policy,
            resolved,
            names: policy.names(),
            account,
            now,
        }
    }

    /// The account that what is made now belongs to.
    pub fn owner(&self) -> &str {
        self.account.unwrap_or(&self.here.account)
    }

    fn fact(&self, id: &str) -> Option<&Fact> {
        self.facts.objects.get(id)
    }

    /// When an object came, as the API writes it; empty when that is not known.
    pub fn created(&self, id: &str) -> String {
        self.fact(id).map(|f| time(f.created)).unwrap_or_default()
    }

    /// The resource group of an object whose document has no place for one; empty when it is in none.
    pub fn resource_group(&self, id: &str) -> &str {
        self.fact(id).and_then(|f| f.resource_group.as_deref()).unwrap_or_default()
    }

    /// Tags of an object whose document has no place for them.
    pub fn tags(&self, id: &str) -> BTreeMap<String, String> {
        self.fact(id).map(|f| f.tags.clone()).unwrap_or_default()
    }

    /// What is known of an object, to be changed.
    pub fn fact_mut(&mut self, id: &str) -> &mut Fact {
        let created = self.now;
        self.facts.to_mut().objects.entry(id.to_owned()).or_insert_with(|| Fact { created, ..Fact::default() })
    }

    /// The document of the API's own objects, made if need be.
    pub fn own(&mut self) -> &mut Document {
        let at = self.documents.iter().position(|d| d.name() == OWNER);
        let documents = self.documents.to_mut();
        let at = at.unwrap_or_else(|| {
            documents.push(Document { document: Some(OWNER.into()), ..Document::default() });
            documents.len() - 1
        });
        &mut documents[at]
    }

    // By id, or by name for the administrator.

    fn find(&self, kind: &Kind, id: &str, visible: impl Fn(&str) -> bool) -> Option<usize> {
        let named = || self.account.is_none().then(|| kind.named(id)).flatten();
        kind.with_id(id).or_else(named).filter(|&i| visible(&kind.ids[i]))
    }

    /// Whether the caller sees an object.
    pub fn sees(&self, id: &str) -> bool {
        self.account.is_none_or(|account| account == self.account_of_id(id))
    }

    /// A group of the caller's.
    pub fn group(&self, id: &str) -> Option<usize> {
        self.find(&self.names.groups, id, |id| self.sees(id))
    }

    /// A group as documents refer to it: anybody's, by id or name.
    pub fn any_group(&self, text: &str) -> Option<usize> {
        self.names.groups.with_id(text).or_else(|| self.names.groups.named(text))
    }

    /// A group of an account, which a rule may name.
    pub fn group_of(&self, id: &str, account: Option<&str>) -> Option<usize> {
        let Some(account) = account else { return self.group(id) };
        self.names.groups.with_id(id).filter(|&i| self.account_of(i) == account)
    }

    /// A prefix list.
    pub fn prefix_list(&self, text: &str) -> Option<usize> {
        self.names.prefix_lists.with_id(text).or_else(|| self.names.prefix_lists.named(text))
    }

    /// A port range list.
    pub fn port_list(&self, text: &str) -> Option<usize> {
        self.names.port_lists.with_id(text).or_else(|| self.names.port_lists.named(text))
    }

    /// An interface of the caller's.
    pub fn interface(&self, id: &str) -> Option<usize> {
        self.find(&self.names.interfaces, id, |id| self.sees(id))
    }

    /// Group ids an interface is in.
    pub fn groups_of(&self, interface: usize) -> Vec<usize> {
        self.interface_at(interface).security_group_ids.iter().filter_map(|t| self.any_group(t)).collect()
    }

    /// Interfaces in a group.
    pub fn members(&self, group: usize) -> Vec<usize> {
        self.all_interfaces().filter(|&i| self.groups_of(i).contains(&group)).collect()
    }

    /// Every group's number.
    pub fn all_groups(&self) -> std::ops::Range<usize> {
        0..self.names.groups.ids.len()
    }

    /// Every interface's number.
    pub fn all_interfaces(&self) -> std::ops::Range<usize> {
        0..self.names.interfaces.ids.len()
    }

    /// Every prefix list's number.
    pub fn all_prefix_lists(&self) -> std::ops::Range<usize> {
        0..self.names.prefix_lists.ids.len()
    }

    /// Every port range list's number.
    pub fn all_port_lists(&self) -> std::ops::Range<usize> {
        0..self.names.port_lists.ids.len()
    }

    /// A group as written.
    pub fn group_at(&self, i: usize) -> &Group {
        let (d, i) = self.names.groups.places[i];
        &self.documents[d].security_groups[i]
    }

    /// The same, to be changed.
    pub fn group_mut(&mut self, i: usize) -> &mut Group {
        let (d, i) = self.names.groups.places[i];
        self.documents.to_mut()[d].security_groups.edit(i)
    }

    /// Takes a group out. Numbers of groups are old after it.
    pub fn remove_group(&mut self, i: usize) {
        let (d, i) = self.names.groups.places[i];
        self.documents.to_mut()[d].security_groups.remove(i);
    }

    /// A prefix list as written.
    pub fn prefix_list_at(&self, i: usize) -> &PrefixList {
        let (d, i) = self.names.prefix_lists.places[i];
        &self.documents[d].prefix_lists[i]
    }

    /// The same, to be changed.
    pub fn prefix_list_mut(&mut self, i: usize) -> &mut PrefixList {
        let (d, i) = self.names.prefix_lists.places[i];
        self.documents.to_mut()[d].prefix_lists.edit(i)
    }

    /// Takes a prefix list out.
    pub fn remove_prefix_list(&mut self, i: usize) {
        let (d, i) = self.names.prefix_lists.places[i];
        self.documents.to_mut()[d].prefix_lists.remove(i);
    }

    /// A port range list as written.
    pub fn port_list_at(&self, i: usize) -> &PortRangeList {
        let (d, i) = self.names.port_lists.places[i];
        &self.documents[d].port_range_lists[i]
    }

    /// The same, to be changed.
    pub fn port_list_mut(&mut self, i: usize) -> &mut PortRangeList {
        let (d, i) = self.names.port_lists.places[i];
        self.documents.to_mut()[d].port_range_lists.edit(i)
    }

    /// Takes a port range list out.
    pub fn remove_port_list(&mut self, i: usize) {
        let (d, i) = self.names.port_lists.places[i];
        self.documents.to_mut()[d].port_range_lists.remove(i);
    }

    /// An interface as written.
    pub fn interface_at(&self, i: usize) -> &NetworkInterface {
        let (d, i) = self.names.interfaces.places[i];
        &self.documents[d].network_interfaces[i]
    }

    /// The same, to be changed.
    pub fn interface_mut(&mut self, i: usize) -> &mut NetworkInterface {
        let (d, i) = self.names.interfaces.places[i];
        self.documents.to_mut()[d].network_interfaces.edit(i)
    }

    /// Takes an interface out.
    pub fn remove_interface(&mut self, i: usize) {
        let (d, i) = self.names.interfaces.places[i];
        self.documents.to_mut()[d].network_interfaces.remove(i);
    }

    /// All instances as written.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.documents.iter().flat_map(|d| d.instances.iter())
    }

    /// The name a group was given; empty when it has none.
    pub fn group_name(&self, i: usize) -> String {
        self.group_at(i).security_group_name.as_deref().unwrap_or_default().to_owned()
    }

    /// A group's VPC.
    pub fn vpc_of(&self, i: usize) -> &str {
        self.group_at(i).vpc_id.as_deref().unwrap_or(DEFAULT_VPC)
    }

    /// The account an object belongs to.
    pub fn account_of_id(&self, id: &str) -> &str {
        self.fact(id).and_then(|f| f.account.as_deref()).unwrap_or(&self.here.account)
    }

    /// The account a group belongs to.
    pub fn account_of(&self, i: usize) -> String {
        self.account_of_id(&self.names.groups.ids[i]).to_owned()
    }

    /// Whether a group is an enterprise one.
    pub fn is_enterprise(&self, i: usize) -> bool {
        self.group_at(i).security_group_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("enterprise"))
    }

    /// Whether only the administrator changes an object.
    pub fn is_managed(&self, id: &str) -> bool {
        self.fact(id).is_some_and(|f| f.managed)
    }

    /// Whether an object must not be deleted.
    pub fn is_protected(&self, id: &str) -> bool {
        self.fact(id).is_some_and(|f| f.protected)
    }

    /// Whether a group is the default one of its VPC.
    pub fn is_default(&self, id: &str) -> bool {
        self.fact(id).is_some_and(|f| f.default)
    }

    /// Refuses to let a tenant touch a managed group.
    ///
    /// # Errors
    /// [`error::MANAGED`].
    pub fn not_managed(&self, i: usize) -> Result<(), ApiError> {
        let id = &self.names.groups.ids[i];
        if self.account.is_some() && self.is_managed(id) { Err(error::MANAGED.of(id)) } else { Ok(()) }
    }

    /// A group that the caller names and may change.
    ///
    /// # Errors
    /// Absent, unknown, managed.
    pub fn changeable_group(&self, id: Option<&str>) -> Result<usize, ApiError> {
        let i = self.group(id.ok_or(error::GROUP_ID_MISSING)?).ok_or(error::GROUP_NOT_FOUND)?;
        self.not_managed(i)?;
        Ok(i)
    }

    /// Every VPC, the default one first.
    pub fn vpcs(&self) -> impl Iterator<Item = &'a str> {
        let here = self.here;
        std::iter::once(DEFAULT_VPC).chain(here.vpcs.iter().map(String::as_str))
    }

    /// Whether there is a VPC of that name.
    pub fn has_vpc(&self, id: &str) -> bool {
        self.vpcs().any(|v| v == id)
    }

    /// The VPC that a VSwitch is of.
    pub fn vpc_of_vswitch(&self, id: &str) -> Option<&'a str> {
        self.vpcs().find(|vpc| vswitch_of(vpc) == id)
    }
}
