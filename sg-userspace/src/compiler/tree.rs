//! Every prefix that a policy names, what each of them adds to what lies around
//! it, and the class that comes of it. A change of some prefixes looks at these
//! and at what lies inside them, at nothing else.

use std::collections::BTreeMap;

use sg_common::policy::AddrClass;

use super::{addresses::Net, bits::Bits, classes::Classes};

/// An entry that matches a prefix, or does not although one around it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Of which direction.
    pub side: u8,
    /// Its place among the entries.
    pub entry: u16,
    /// Whether it matches.
    pub set: bool,
}

/// What names a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// One entry, for as long as the policy lives.
    Fixed(Fixed),
    /// A set that changes: the members of a group, or a prefix list.
    Source(u16),
}

/// Where the kernel holds a prefix, if it is in neither table nor list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: what lies around it answers the same, or its family has a table or list.
    #[default]
    Nowhere,
    /// In the hash of exact hosts.
    Hash,
    /// In the trie.
    Trie,
}

/// A prefix.
#[derive(Clone, Debug, Default)]
pub struct Node {
    fixed: Vec<Fixed>,
    sources: Vec<u16>,
    /// Class of its addresses, those of longer prefixes inside aside.
    pub class: AddrClass,
    /// Where it is held.
    pub place: Place,
}

impl Node {
    /// Whether nothing names it any more.
    pub fn is_unnamed(&self) -> bool {
        self.fixed.is_empty() && self.sources.is_empty()
    }
}

/// The classes are used up, until a rebuild or a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A prefix whose class was found anew.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The prefix.
    pub net: Net,
    /// Its class before.
    pub before: AddrClass,
    /// Its class.
    pub class: AddrClass,
    /// The class of what lies around it.
    pub outer: AddrClass,
}

/// All prefixes of one address field.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Net, Node>,
    /// How many there are of each length, by family.
    lengths: [Vec<u32>; 2],
    /// Entries of each source, by direction.
    sources: Vec<[Vec<u16>; 2]>,
    /// Sets of entries by class, by direction; class 0 is an address no prefix covers.
    pub classes: [Classes; 2],
}

impl Tree {
    /// Finds all classes; at most `limit` in each direction.
    ///
    /// # Errors
    /// There are more.
    pub fn build(items: Vec<(Net, Item)>, sources: Vec<[Vec<u16>; 2]>, limit: usize) -> Result<Self, NoRoom> {
        let mut items = items;
        items.sort_by_key(|(net, _)| *net);
        let mut grouped: Vec<(Net, Node)> = Vec::with_capacity(items.len());
        let mut lengths = [vec![0; 33], vec![0; 129]];
        for (net, item) in items {
            if grouped.last().is_none_or(|(last, _)| *last != net) {
                lengths[usize::from(!net.is_v4())][usize::from(net.length())] += 1;
                grouped.push((net, Node::default()));
            }
            let Some((_, node)) = grouped.last_mut() else { continue };
            match item {
                Item::Fixed(fixed) => node.fixed.push(fixed),
                Item::Source(source) if !node.sources.contains(&source) => node.sources.push(source),
                Item::Source(_) => {}
            }
        }
        let classes = [Classes::new(limit), Classes::new(limit)];
        let mut tree = Self { nodes: grouped.into_iter().collect(), lengths, sources, classes };
        for family in super::addresses::FAMILIES {
            tree.renew(family.into(), AddrClass::default(), 0, |_, _| {})?;
        }
        Ok(tree)
    }

    /// Adds or takes away a source's name for a prefix. Classes are not renewed.
    pub fn name(&mut self, net: Net, source: u16, on: bool) {
        let (lengths, index) = (&mut self.lengths[usize::from(!net.is_v4())], usize::from(net.length()));
        if on {
            let node = self.nodes.entry(net).or_insert_with(|| {
                lengths[index] += 1;
                Node::default()
            });
            if !node.sources.contains(&source) {
                node.sources.push(source);
            }
        } else if let Some(node) = self.nodes.get_mut(&net) {
            node.sources.retain(|s| *s != source);
        }
    }

    /// Takes a prefix out that nothing names and that is held nowhere.
    pub fn forget(&mut self, net: &Net, grace: u64) {
        if self.nodes.get(net).is_none_or(|n| !n.is_unnamed() || n.place != Place::Nowhere) {
            return;
        }
        if let Some(node) = self.nodes.remove(net) {
            self.lengths[usize::from(!net.is_v4())][usize::from(net.length())] -= 1;
            for (side, classes) in self.classes.iter_mut().enumerate() {
                classes.leave(node.class.class[side], grace);
            }
        }
    }

    /// The class around a prefix, itself aside.
    pub fn around(&self, net: &Net) -> AddrClass {
        let lengths = &self.lengths[usize::from(!net.is_v4())][..usize::from(net.length())];
        let there = lengths.iter().enumerate().rev().filter(|(_, n)| **n > 0);
        let mut found = there.filter_map(|(length, _)| self.nodes.get(&net.around(length as u8)));
        found.next().map(|node| node.class).unwrap_or_default()
    }

    /// All prefixes in order.
    pub fn nodes(&self) -> impl Iterator<Item = (&Net, &Node)> {
        self.nodes.iter()
    }

    /// A prefix.
    pub fn node_mut(&mut self, net: &Net) -> Option<&mut Node> {
        self.nodes.get_mut(net)
    }

    /// Every prefix that a source names.
    pub fn named(&self) -> impl Iterator<Item = (u16, Net)> {
        self.nodes.iter().flat_map(|(net, node)| node.sources.iter().map(|s| (*s, *net)))
    }

    /// Finds the classes of a prefix and of all inside it anew, given the class
    /// around it, and tells each.
    ///
    /// # Errors
    /// The classes do not suffice; the tree is of no more use.
    pub fn renew(
        &mut self,
        root: Net,
        outer: AddrClass,
        grace: u64,
        mut seen: impl FnMut(Seen, &mut Node),
    ) -> Result<(), NoRoom> {
        let Self { nodes, sources, classes, .. } = self;
        let mut around: Vec<(Net, AddrClass)> = Vec::new();
        // Members come in thousands, and are all alike.
        let mut alike: Option<(AddrClass, Vec<u16>, AddrClass)> = None;
        for (&net, node) in nodes.range_mut(root..=root.last()) {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
                around.pop();
            }
            let outer = around.last().map_or(outer, |(_, class)| *class);
            let before = node.class;
            let class = match &alike {
                _ if node.is_unnamed() => outer,
                Some((o, s, class)) if node.fixed.is_empty() && *o == outer && *s == node.sources => *class,
                _ => {
                    let mut class = AddrClass::default();
                    for (side, classes) in classes.iter_mut().enumerate() {
                        let mut set = classes.sets[usize::from(outer.class[side])];
                        apply(&mut set, node, side, sources);
                        class.class[side] = classes.number(set, grace).ok_or(NoRoom)?;
                    }
                    alike = node.fixed.is_empty().then(|| (outer, node.sources.clone(), class));
                    class
                }
            };
            for (side, classes) in classes.iter_mut().enumerate() {
                if class.class[side] != before.class[side] {
                    classes.join(class.class[side]);
                    classes.leave(before.class[side], grace);
                }
            }
            node.class = class;
            seen(Seen { net, before, class, outer }, node);
            around.push((net, class));
        }
        Ok(())
    }
}

fn apply(set: &mut Bits, node: &Node, side: usize, sources: &[[Vec<u16>; 2]]) {
    for source in &node.sources {
        for &entry in &sources[usize::from(*source)][side] {
            set.set(usize::from(entry));
        }
    }
    for fixed in node.fixed.iter().filter(|f| usize::from(f.side) == side) {
        let entry = usize::from(fixed.entry);
        if fixed.set { set.set(entry) } else { set.clear(entry) }
    }
}
