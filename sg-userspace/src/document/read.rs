//! Tree to typed document: unknown keys and wrong shapes are problems with a
//! place; reading goes on behind each, so that all of them come out at once.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    problem::Problems,
    tree::{At, Node, Value},
};

/// A text and where it stands. Equal when the texts are.
#[derive(Clone, Debug, Default, Eq)]
pub struct Text {
    /// As written.
    pub value: String,
    /// Where.
    pub at: At,
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        Self { value: value.into(), at: At::default() }
    }
}

impl Serialize for Text {
    /// A canonical whole number is written as one; reading gives the same text back.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.value.parse::<u64>() {
            Ok(n) if n.to_string() == self.value => s.serialize_u64(n),
            _ => s.serialize_str(&self.value),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a whole number")
            }
            fn visit_str<E>(self, v: &str) -> Result<Text, E> {
                Ok(Text::from(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Text, E> {
                Ok(Text::from(v.to_string().as_str()))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// What can be read from a node.
pub trait Read: Default {
    /// Reads it, noting problems; `path` names it.
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Self;
    /// Whether there is nothing to write.
    fn is_absent(&self) -> bool;
    /// Says where it, and all in it, stands.
    fn place(&mut self, at: &At);
}

/// A mapping with known keys.
pub trait Mapping: Sized {
    /// Reads it from its entries.
    fn read_entries(at: &At, entries: &[(String, At, Node)], path: &str, problems: &mut Problems) -> Self;
    /// Says where it, and all in it, stands.
    fn place(&mut self, at: &At);
}

fn expected(what: &str, node: &Node, path: &str, problems: &mut Problems) {
    problems.add(&node.at, path, format!("{what} is expected here, not {}", node.value.kind()), None);
}

impl Read for Option<Text> {
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Self {
        match &node.value {
            Value::Absent => None,
            Value::Scalar(value) => Some(Text { value: value.clone(), at: node.at.clone() }),
            _ => {
                expected("a text", node, path, problems);
                None
            }
        }
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn place(&mut self, at: &At) {
        self.iter_mut().for_each(|text| text.at = at.clone());
    }
}

impl Read for Vec<Text> {
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Self {
        match &node.value {
            Value::Absent => Vec::new(),
            Value::Sequence(items) => items
                .iter()
                .enumerate()
                .filter_map(|(i, n)| {
                    let path = format!("{path}[{i}]");
                    let text = Option::<Text>::read(n, &path, problems);
                    if matches!(n.value, Value::Absent) {
                        expected("a text", n, &path, problems);
                    }
                    text
                })
                .collect(),
            _ => {
                expected("a list of texts", node, path, problems);
                Vec::new()
            }
        }
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn place(&mut self, at: &At) {
        self.iter_mut().for_each(|text| text.at = at.clone());
    }
}

fn read_mapping<T: Mapping>(node: &Node, path: &str, problems: &mut Problems) -> Option<T> {
    match &node.value {
        Value::Mapping(entries) => Some(T::read_entries(&node.at, entries, path, problems)),
        _ => {
            expected("a mapping", node, path, problems);
            None
        }
    }
}

impl<T: Mapping> Read for Option<Box<T>> {
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Self {
        match &node.value {
            Value::Absent => None,
            _ => read_mapping(node, path, problems).map(Box::new),
        }
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn place(&mut self, at: &At) {
        self.iter_mut().for_each(|mapping| mapping.place(at));
    }
}

/// A list of mappings, which copies of it share: a copy costs little, and whether two
/// lists hold the same is seen without looking into what they share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List<T>(Vec<Arc<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Index<usize> for List<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        &self.0[at]
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(Arc::new).collect())
    }
}

impl<T> List<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The item at a place, if there is one.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at).map(Arc::as_ref)
    }

    /// All, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator + Clone {
        self.0.iter().map(Arc::as_ref)
    }

    /// All, as they are shared.
    pub fn shared(&self) -> &[Arc<T>] {
        &self.0
    }

    /// Puts an item at the end.
    pub fn push(&mut self, item: T) {
        self.0.push(Arc::new(item));
    }

    /// Puts all of another list at the end, which goes on sharing them.
    pub fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Takes an item out.
    ///
    /// # Panics
    /// There is none at this place.
    pub fn remove(&mut self, at: usize) {
        self.0.remove(at);
    }

    /// Keeps the items that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.0.retain(|item| wanted(item));
    }

    /// Takes all items out.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: PartialEq> List<T> {
    /// Shares the items of another list that are the same and in the same place.
    pub fn share(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0).filter(|(own, other)| **own == **other) {
            own.clone_from(other);
        }
    }
}

impl<T: Clone> List<T> {
    /// An item to be changed; others that share it keep it as it is.
    ///
    /// # Panics
    /// There is none at this place.
    pub fn edit(&mut self, at: usize) -> &mut T {
        Arc::make_mut(&mut self.0[at])
    }

    /// Every item, to be changed. What is only looked at is shared no longer.
    pub fn edit_all(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(Arc::make_mut)
    }
}

impl<T: Mapping + Clone> Read for List<T> {
    fn read(node: &Node, path: &str, problems: &mut Problems) -> Self {
        match &node.value {
            Value::Absent => Self::default(),
            Value::Sequence(items) => items
                .iter()
                .enumerate()
                .filter_map(|(i, n)| read_mapping(n, &format!("{path}[{i}]"), problems))
                .collect(),
            _ => {
                expected("a list", node, path, problems);
                Self::default()
            }
        }
    }
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
    fn place(&mut self, at: &At) {
        self.edit_all().for_each(|item| item.place(at));
    }
}

/// The nearest of the known keys, if one is near.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().min_by_key(|k| strsim::damerau_levenshtein(&word.to_lowercase(), k))?;
    (strsim::damerau_levenshtein(&word.to_lowercase(), best) <= best.len().max(3) / 2).then_some(best)
}

/// Notes a key that is not known.
pub fn unknown_key(key: &str, at: &At, path: &str, known: &[&str], problems: &mut Problems) {
    let help = match nearest(key, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known keys: {}", known.join(", ")),
    };
    problems.add(at, path, format!("unknown key {key:?}"), Some(help));
}

/// Defines a mapping: a struct of its keys, which reads and writes itself.
macro_rules! mapping {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Where it begins.
            #[serde(skip)]
            pub at: $crate::document::Position,
            $($(#[$field_meta])* #[serde(skip_serializing_if = "Read::is_absent")] pub $field: $kind,)*
        }

        impl $crate::document::read::Mapping for $name {
            fn read_entries(
                at: &$crate::document::At,
                entries: &[(String, $crate::document::At, $crate::document::tree::Node)],
                path: &str,
                problems: &mut $crate::document::Problems,
            ) -> Self {
                const KEYS: &[&str] = &[$(stringify!($field)),*];
                let mut result = Self { at: $crate::document::Position(at.clone()), ..Self::default() };
                for (key, key_at, node) in entries {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match key.as_str() {
                        $(stringify!($field) => result.$field = Read::read(node, &path, problems),)*
                        _ => $crate::document::read::unknown_key(key, key_at, &path, KEYS, problems),
                    }
                }
                result
            }

            fn place(&mut self, at: &$crate::document::At) {
                self.at = $crate::document::Position(at.clone());
                $(Read::place(&mut self.$field, at);)*
            }
        }
    };
}
pub(crate) use mapping;
