//! Parameters of a call: query and form are one set, lists are flattened into
//! names (`Permissions.1.IpProtocol`, counted from 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The highest index that a flattened list may have.
pub const MAX_INDEX: usize = 1000;

/// Parameters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(pub BTreeMap<String, String>);

impl Params {
    /// A value; an empty one is as good as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether any parameter has this name, or belongs to the list of this name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.under(name).next().is_some()
    }

    /// Parts of names below `name.`, with values.
    fn under<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, 'n> {
        let range = self.0.range::<str, _>((std::ops::Bound::Excluded(name), std::ops::Bound::Unbounded));
        range
            .take_while(move |(key, _)| key.starts_with(name))
            .filter_map(move |(key, value)| Some((key[name.len()..].strip_prefix('.')?, value.as_str())))
    }

    /// The values of `name.N`, in the order of N; empty ones are left out.
    ///
    /// # Errors
    /// The name of what has no good index, or of a list in one parameter: passed over, it would
    /// be taken for heeded.
    pub fn list(&self, name: &str) -> Result<Vec<&str>, String> {
        self.flat(name)?;
        let mut values = BTreeMap::new();
        for (rest, value) in self.under(name).filter(|(_, value)| !value.is_empty()) {
            values.insert(index(name, rest)?, value);
        }
        Ok(values.into_values().collect())
    }

    /// Refuses a list that is not flattened.
    fn flat(&self, name: &str) -> Result<(), String> {
        if self.get(name).is_some() { Err(name.to_owned()) } else { Ok(()) }
    }

    /// The records of `name.N.Field`, with their N, in its order.
    ///
    /// # Errors
    /// As [`Params::list`].
    pub fn records(&self, name: &str) -> Result<Vec<(usize, Self)>, String> {
        self.flat(name)?;
        let mut records: BTreeMap<usize, Self> = BTreeMap::new();
        for (rest, value) in self.under(name) {
            let Some((number, field)) = rest.split_once('.') else { return Err(format!("{name}.{rest}")) };
            records.entry(index(name, number)?).or_default().0.insert(field.to_owned(), value.to_owned());
        }
        Ok(records.into_iter().collect())
    }
}

fn index(name: &str, text: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && (1..=MAX_INDEX).contains(&n) => Ok(n),
        _ => Err(format!("{name}.{text}")),
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_records_come_in_the_order_of_their_numbers() {
        let p: Params = [
            ("Id.10", "j"),
            ("Id.2", "b"),
            ("Id.1", "a"),
            ("Id.3", ""),
            ("Identity", "x"),
            ("Tag.1.Key", "k"),
            ("Tag.1.Value", ""),
            ("Tag.2.Key", "l"),
        ]
        .into_iter()
        .collect();
        assert_eq!(p.list("Id").unwrap(), ["a", "b", "j"]);
        let tags = p.records("Tag").unwrap();
        assert_eq!(tags.len(), 2);
        assert_eq!((tags[0].1.get("Key"), tags[0].1.get("Value")), (Some("k"), None));
        assert!(p.has("Tag") && p.has("Identity") && !p.has("Ident"));
    }

    #[test]
    fn a_list_in_one_parameter_is_refused() {
        let p: Params = [("Id", "a"), ("Tag", "[]"), ("Empty", "")].into_iter().collect();
        assert_eq!(p.list("Id").unwrap_err(), "Id");
        assert_eq!(p.records("Tag").unwrap_err(), "Tag");
        assert!(p.list("Empty").unwrap().is_empty());
    }

    #[test]
    fn an_index_is_a_small_number() {
        for bad in ["0", "1001", "-1", "+1", "x", "", "99999999999999999999999"] {
            let p: Params = [(format!("Id.{bad}"), "a"), (format!("Tag.{bad}.Key"), "k")].into_iter().collect();
            assert_eq!(p.list("Id").unwrap_err(), format!("Id.{bad}"));
            assert!(p.records("Tag").is_err(), "{bad}");
        }
    }
}
