//! How full everything is that has a bound. Pure.

use serde::{Deserialize, Serialize};

use crate::{
    model::{GroupType, Model},
    validate::{Quotas, usage},
};

/// What is used of a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What is bounded.
    pub what: String,
    /// Whose it is, of several that have one each: that of the fullest.
    #[serde(default)]
    pub whose: Option<String>,
    /// How much is used.
    pub used: u64,
    /// How much may be.
    pub of: u64,
}

/// Part of a bound from which on it is always told, percent.
pub const NEARLY: u64 = 80;

impl Room {
    /// Of something that there is one of.
    pub fn new(what: &str, used: impl TryInto<u64>, of: impl TryInto<u64>) -> Self {
        let number = |n: Result<u64, _>| n.unwrap_or(u64::MAX);
        Self {
            what: what.into(),
            whose: None,
            used: number(used.try_into().map_err(drop)),
            of: number(of.try_into().map_err(drop)),
        }
    }

    /// The fullest of several with the same bound; `None` where there is none, or no bound.
    pub fn fullest<S: Into<String>>(what: &str, of: usize, all: impl IntoIterator<Item = (S, usize)>) -> Option<Self> {
        let (whose, used) = all.into_iter().max_by_key(|(_, used)| *used)?;
        (of > 0 && of < usize::MAX).then(|| Self { whose: Some(whose.into()), ..Self::new(what, used, of) })
    }

    /// Parts of a hundred, rounded up: what is not empty is more than nothing.
    pub fn percent(&self) -> u64 {
        let percent = (u128::from(self.used) * 100).div_ceil(u128::from(self.of.max(1)));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

/// The fullest first.
pub fn sort(all: &mut [Room]) {
    all.sort_by(|a, b| {
        let part = |r: &Room, of: u64| u128::from(r.used) * u128::from(of.max(1));
        part(b, a.of).cmp(&part(a, b.of)).then_with(|| a.what.cmp(&b.what))
    });
}

/// How many of them are told unless all are asked for: `most`, and those that are nearly full.
pub fn told(sorted: &[Room], most: usize) -> usize {
    let nearly = sorted.iter().take_while(|r| r.percent() > NEARLY).count();
    nearly.max(most).min(sorted.len())
}

/// What of the quotas a policy uses, by the same count by which more is refused.
pub fn quotas(model: &Model, quotas: &Quotas) -> Vec<Room> {
    let interfaces = || model.interfaces.iter().map(|i| i.name.clone());
    let groups = |kind: GroupType, counts: Vec<usize>| {
        let named = model.groups.iter().zip(counts).filter(move |(g, _)| g.kind == kind);
        named.map(|(g, count)| (g.name.clone(), count)).collect::<Vec<_>>()
    };
    let lists = || model.prefix_lists.iter().map(|l| l.name.clone());
    let own = |lists: Vec<(String, usize, usize)>, what: &str| {
        // Each has a bound of its own: the part that is used decides.
        let rooms = lists.into_iter().filter(|(.., of)| *of > 0);
        let rooms = rooms.map(|(name, used, of)| Room { whose: Some(name), ..Room::new(what, used, of) });
        let mut rooms: Vec<Room> = rooms.collect();
        sort(&mut rooms);
        rooms.into_iter().next()
    };
    let entries = model.prefix_lists.iter().map(|l| (l.name.clone(), l.entries.len(), l.max_entries)).collect();
    let port_entries = model.port_lists.iter().map(|l| (l.name.clone(), l.entries.len(), l.max_entries)).collect();
    [
        Room::fullest("rules of an interface", quotas.rules_per_interface, interfaces().zip(usage::rules(model))),
        Room::fullest(
            "groups of an interface",
            quotas.groups_per_interface,
            interfaces().zip(model.interfaces.iter().map(|i| i.groups.len())),
        ),
        Room::fullest(
            "rules that name groups, of a group",
            quotas.group_rules_per_group,
            groups(GroupType::Normal, usage::group_rules(model)),
        ),
        Room::fullest(
            "addresses of a group",
            quotas.addresses_per_normal_group,
            groups(GroupType::Normal, usage::members(model)),
        ),
        Room::fullest(
            "interfaces of a group",
            quotas.interfaces_per_enterprise_group,
            groups(GroupType::Enterprise, usage::members(model)),
        ),
        Room::fullest(
            "groups that name a prefix list",
            quotas.groups_per_prefix_list,
            lists().zip(usage::list_groups(model)),
        ),
        Room::fullest(
            "max_entries of a prefix list",
            quotas.prefix_list_entries,
            lists().zip(model.prefix_lists.iter().map(|l| l.max_entries)),
        ),
        Room::fullest(
            "max_entries of a port list",
            quotas.port_list_entries,
            model.port_lists.iter().map(|l| (l.name.clone(), l.max_entries)),
        ),
        own(entries, "entries of a prefix list"),
        own(port_entries, "entries of a port list"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Source, parse};

    #[test]
    fn the_fullest_comes_first_and_what_is_nearly_full_is_told() {
        let mut all: Vec<Room> = [("a", 1, 1000), ("b", 81, 100), ("c", 9, 10), ("d", 0, 5), ("e", 2, 0)]
            .map(|(w, u, o)| Room::new(w, u, o))
            .into();
        sort(&mut all);
        let names: Vec<&str> = all.iter().map(|r| r.what.as_str()).collect();
        assert_eq!(names, ["e", "c", "b", "a", "d"]);
        assert_eq!(all.iter().map(Room::percent).collect::<Vec<_>>(), [200, 90, 81, 1, 0]);
        assert_eq!((told(&all, 1), told(&all, 4), told(&all, 9)), (3, 4, 5));
        assert_eq!(told(&[Room::new("a", 80, 100)], 0), 0);
    }

    #[test]
    fn quotas_are_told_by_the_count_by_which_more_is_refused() {
        let text = "
security_groups:
- security_group_name: web
  permissions:
  - {direction: ingress, ip_protocol: tcp, port_range: 22/22, source_prefix_list_id: office}
  - {direction: ingress, ip_protocol: tcp, port_range: 9100/9100, source_group_id: mon}
- {security_group_name: mon}
- {security_group_name: e, security_group_type: enterprise}
prefix_lists:
- {prefix_list_name: home, max_entries: 4, entries: [{cidr: 192.0.2.0/24}]}
- {prefix_list_name: office, max_entries: 20, entries: [{cidr: 203.0.113.0/24}, {cidr: 198.51.100.0/24}]}
port_range_lists: [{port_range_list_name: ports, max_entries: 2, entries: [{port_range: 80/80}]}]
network_interfaces:
- {device: eth0, private_ip_addresses: [10.0.0.1, 10.0.0.2], security_group_ids: [web, mon]}
- {device: eth1, private_ip_addresses: [10.0.0.3], security_group_ids: [web]}
- {device: eth2, private_ip_addresses: [10.0.0.4], security_group_ids: [e]}
";
        let document = parse(&[Source { name: "f".into(), bytes: text.into() }]).unwrap();
        let limits = Quotas { rules_per_interface: 21, ..Quotas::default() };
        let model = crate::validate::validate(&document, &limits).unwrap();
        let told: Vec<String> = quotas(&model, &limits)
            .iter()
            .map(|r| format!("{} ({}): {} of {}", r.what, r.whose.as_deref().unwrap_or("-"), r.used, r.of))
            .collect();
        assert_eq!(
            told,
            [
                "rules of an interface (eth1): 21 of 21",
                "groups of an interface (eth0): 2 of 10",
                "rules that name groups, of a group (web): 1 of 20",
                "addresses of a group (web): 3 of 6000",
                "interfaces of a group (e): 1 of 65536",
                "groups that name a prefix list (office): 1 of 1000",
                "max_entries of a prefix list (office): 20 of 200",
                "max_entries of a port list (ports): 2 of 2000",
                "entries of a prefix list (home): 1 of 4",
                "entries of a port list (ports): 1 of 2",
            ]
        );
        // One rule more than that is refused.
        let less = Quotas { rules_per_interface: 20, ..limits };
        assert!(crate::validate::validate(&document, &less).unwrap_err().to_string().contains("21 rules apply here"));
    }
}
