//! Rules that decide nothing, or nothing that is not decided without them.
//!
//! A rule is judged in the merged policy of each interface that has its group; a group that
//! no interface has, by itself. It is called covered, shadowed or redundant when it is that
//! in all of them; and shadowed on some interfaces when it is hidden there, at least in
//! part by rules of the other verdict.

use std::collections::BTreeSet;

use super::{
    DIRECTIONS, View,
    fate::{Fate, Judged},
    finding::{Code, Finding, Spot, some},
};
use crate::{
    effective::{self, Origin},
    model::{Object, Ports},
};

/// A rule in one of its policies.
struct Sight<'a> {
    interfaces: &'a [usize],
    judged: &'a Judged,
    line: usize,
    fate: &'a Fate,
}

impl Sight<'_> {
    fn lines(&self) -> Vec<usize> {
        match self.fate {
            Fate::Hidden(before) => before.clone(),
            Fate::Spare { before, after, .. } => before.iter().chain(after).copied().collect(),
            Fate::Needed(_) | Fate::Empty => Vec::new(),
        }
    }

    /// Whether what hides it says the other thing, of some packets.
    fn is_overruled(&self) -> bool {
        let own = self.judged.lines[self.line].verdict;
        matches!(self.fate, Fate::Hidden(before) if before.iter().any(|l| self.judged.lines[*l].verdict != own))
    }

    /// Whether one of those that make it needless is needless because of it.
    fn is_mutual(&self) -> bool {
        self.lines().iter().any(|other| match &self.judged.fates[*other] {
            Fate::Hidden(before) => before.contains(&self.line),
            Fate::Spare { before, after, .. } => before.contains(&self.line) || after.contains(&self.line),
            Fate::Needed(_) | Fate::Empty => false,
        })
    }
}

fn name(view: &View<'_>, origin: Option<Origin>) -> String {
    origin.map_or_else(|| "(essential)".into(), |origin| effective::name(view.model, origin))
}

/// Names of lines, in order, once each.
fn names<'a>(view: &View<'_>, sights: &[&Sight<'a>], lines: impl Fn(&Sight<'a>) -> Vec<usize>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let all = sights.iter().flat_map(|s| lines(s).into_iter().map(|l| name(view, s.judged.lines[l].origin)));
    all.filter(|n| seen.insert(n.clone())).collect()
}

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    for policy in view.policies.iter().filter(|p| p.judged.iter().any(Option::is_none)) {
        let spot = policy.interfaces.first().map_or(Spot::Group(policy.key.groups[0]), |i| Spot::Interface(*i));
        let message = "too many different ranges of addresses and ports: whether its rules are needless or hide each \
                       other was not looked at";
        let advice = "use fewer rules with a local side or source ports, or prefix and port lists";
        findings.push(Finding::new(view.model, Code::NotLookedAt, spot, message.into(), advice));
    }
    // The sights of each rule.
    for (direction, way) in DIRECTIONS.into_iter().enumerate() {
        let mut sights: Vec<Vec<Option<Vec<Sight<'_>>>>> =
            view.model.groups.iter().map(|g| g.rules.iter().map(|_| Some(Vec::new())).collect()).collect();
        for policy in &view.policies {
            let Some(judged) = &policy.judged[direction] else {
                // Nothing can be said of all its policies.
                policy.key.groups.iter().for_each(|g| sights[*g].iter_mut().for_each(|s| *s = None));
                continue;
            };
            for (line, fate) in judged.fates.iter().enumerate() {
                if let Some(Origin::Rule(g, r)) = judged.lines[line].origin
                    && let Some(sights) = &mut sights[g][r]
                {
                    sights.push(Sight { interfaces: &policy.interfaces, judged, line, fate });
                }
            }
        }
        for (g, sights) in sights.iter().enumerate() {
            for (r, sights) in sights.iter().enumerate() {
                if let Some(sights) = sights.as_deref().filter(|_| view.model.groups[g].rules[r].direction == way) {
                    findings.extend(rule(view, g, r, sights));
                }
            }
        }
    }
}

/// What is said of one rule, seen in all its policies.
fn rule(view: &View<'_>, g: usize, r: usize, sights: &[Sight<'_>]) -> Option<Finding> {
    let all: Vec<&Sight<'_>> = sights.iter().collect();
    if all.iter().all(|s| matches!(s.fate, Fate::Empty)) {
        return nothing(view, g, r);
    }
    let (code, message, advice, because) = if all.iter().all(|s| matches!(s.fate, Fate::Hidden(_) | Fate::Empty)) {
        hidden(view, g, r, &all)
    } else if all.iter().all(|s| !matches!(s.fate, Fate::Needed(_))) {
        spare(view, g, r, &all)
    } else {
        let overruled: Vec<&Sight<'_>> = sights.iter().filter(|s| s.is_overruled()).collect();
        if overruled.is_empty() {
            return None;
        }
        sometimes(view, g, r, &overruled)
    };
    let finding = Finding::new(view.model, code, Spot::Rule(g, r), message, advice);
    Some(Finding { because_of: because, ..finding })
}

type Said = (Code, String, &'static str, Vec<String>);

/// One way to say it of one, another of several.
fn says(names: &[String], one: &str, several: &str) -> String {
    format!("{} {}", some(names), if names.len() == 1 { one } else { several })
}

/// It decides nowhere.
fn hidden(view: &View<'_>, g: usize, r: usize, all: &[&Sight<'_>]) -> Said {
    let verdict = view.model.groups[g].rules[r].verdict.name();
    let before = names(view, all, Sight::lines);
    let first = says(&before, "comes first and matches", "come first and together match");
    let (code, advice) = if all.iter().any(|s| s.is_overruled()) {
        (Code::RuleShadowed, "give it a smaller priority number (of equal ones, drop comes first), or remove it")
    } else {
        (Code::RuleCovered, "remove it: nothing changes")
    };
    let tail = match code {
        Code::RuleCovered => format!("and would {verdict} it, too"),
        _ => format!("but would not {verdict} all of it"),
    };
    let message = format!("this {verdict} never decides: {first} all that it matches, {tail}");
    (code, message, advice, before)
}

/// It decides, but nothing that would be decided otherwise without it.
fn spare(view: &View<'_>, g: usize, r: usize, all: &[&Sight<'_>]) -> Said {
    let rule = &view.model.groups[g].rules[r];
    let verdict = rule.verdict.name();
    let after = |s: &Sight<'_>| match s.fate {
        Fate::Spare { after, .. } => after.clone(),
        _ => Vec::new(),
    };
    let before = |s: &Sight<'_>| match s.fate {
        Fate::Spare { before, .. } | Fate::Hidden(before) => before.clone(),
        _ => Vec::new(),
    };
    let mut instead = names(view, all, after);
    if all.iter().any(|s| matches!(s.fate, Fate::Spare { default: true, .. })) {
        instead.push(format!("the {} default", rule.direction.name()));
    }
    let says_so = says(&instead, &format!("would {verdict}"), &format!("would together {verdict}"));
    let mut message = format!("without it, {says_so} the same packets");
    let before = names(view, all, before);
    if !before.is_empty() {
        message += &format!(", and of the rest {}", says(&before, "decides before it", "decide before it"));
    }
    let advice = if all.iter().any(|s| s.is_mutual()) {
        "remove it, or what is named: each is needless as long as the other is there"
    } else {
        "remove it: nothing changes; keep it if it is there to be seen or counted"
    };
    (Code::RuleRedundant, message, advice, names(view, all, Sight::lines))
}

/// It decides on some interfaces, and is overruled on others.
fn sometimes(view: &View<'_>, g: usize, r: usize, overruled: &[&Sight<'_>]) -> Said {
    let verdict = view.model.groups[g].rules[r].verdict.name();
    let interfaces = view.interfaces(overruled.iter().flat_map(|s| s.interfaces));
    let before = names(view, overruled, Sight::lines);
    let first = says(&before, "comes first and matches", "come first and together match");
    let message = format!("this {verdict} never decides on {interfaces}: there {first} all that it matches");
    let advice = "look at all groups of the interface: the smallest priority number wins, of equal ones drop";
    (Code::RuleShadowed, message, advice, before)
}

/// Why a rule matches nothing.
fn nothing(view: &View<'_>, g: usize, r: usize) -> Option<Finding> {
    let rule = &view.model.groups[g].rules[r];
    let spot = Spot::Rule(g, r);
    let verdict = rule.verdict.name();
    let named = match (&rule.object, &rule.ports) {
        (Object::Group(o), _) if view.members.of(*o).next().is_none() => {
            format!("the group {:?}, which has no members with addresses", view.model.groups[*o].name)
        }
        (Object::PrefixList(l), _) if view.model.prefix_lists[*l].entries.is_empty() => {
            format!("the prefix list {:?}, which has no entries", view.model.prefix_lists[*l].name)
        }
        (_, Ports::List(l)) if view.model.port_lists[*l].entries.is_empty() => {
            format!("the port list {:?}, which has no entries", view.model.port_lists[*l].name)
        }
        _ => {
            let message = format!("this {verdict} matches no packet: its local and its remote side exclude each other");
            return Some(Finding::new(view.model, Code::RuleMatchesNothing, spot, message, "mend or remove it"));
        }
    };
    let message = format!("this {verdict} matches nothing yet: it names {named}");
    let advice = "fill it, or remove the rule: whatever is put there later gets this rule at once";
    Some(Finding::new(view.model, Code::RuleNamesEmpty, spot, message, advice))
}
