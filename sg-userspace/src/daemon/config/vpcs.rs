//! `api.vpcs`: ids of which none is another's, nor makes a VSwitch that another has.
//!
//! Each is looked at while the file is read, so that what is wrong has its line.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

use crate::{api::draft::vswitch_of, validate::names::DEFAULT_VPC};

/// Why an id cannot stand beside those before it.
fn collision(known: &[String], id: &str) -> Option<String> {
    if id.is_empty() || id.len() > 128 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Some(format!("vpcs: {id:?} is no id such as \"vpc-lab\" (letters, digits, - _ .)"));
    }
    if id == DEFAULT_VPC {
        return Some(format!("vpcs: {id:?} is there without being named: leave it out"));
    }
    if known.iter().any(|k| k == id) {
        return Some(format!("vpcs: {id:?} stands there twice: leave one out"));
    }
    let vswitch = vswitch_of(id);
    let other = std::iter::once(DEFAULT_VPC).chain(known.iter().map(String::as_str)).find(|k| vswitch_of(k) == vswitch);
    other.map(|other| format!("vpcs: {id:?} would have the VSwitch {vswitch} that {other:?} has: call it otherwise"))
}

struct List;

/// One more id behind those that are known.
struct One<'a>(&'a mut Vec<String>);

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of ids")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut known = Vec::new();
        while seq.next_element_seed(One(&mut known))?.is_some() {}
        Ok(known)
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<(), E> {
        match collision(self.0, id) {
            Some(why) => Err(E::custom(why)),
            None => {
                self.0.push(id.to_owned());
                Ok(())
            }
        }
    }
}

/// Reads the list.
///
/// # Errors
/// What is no id, or collides with another.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(List)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn collisions_are_refused_where_they_stand() {
        let read = |list: &str| Config::parse(&format!("log = \"info\"\n[api]\nvpcs = [\n{list}]\n"));
        assert_eq!(read("\"vpc-a\",\n\"lab\",\n").unwrap().api.vpcs, ["vpc-a", "lab"]);
        for (list, line, why) in [
            ("\"vpc-a\",\n\"vpc-b\",\n\"vpc-a\",\n", 6, "\"vpc-a\" stands there twice"),
            ("\"vpc-a\",\n\"a\",\n", 5, "would have the VSwitch vsw-a that \"vpc-a\" has"),
            ("\"vpc-default\",\n", 4, "is there without being named"),
            ("\"vpc-a\",\n\"default\",\n", 5, "would have the VSwitch vsw-default that \"vpc-default\" has"),
            ("\"vpc a\",\n", 4, "is no id"),
            ("\"\",\n", 4, "is no id"),
        ] {
            let e = read(list).unwrap_err();
            assert!(e.contains(&format!("line {line},")) && e.contains("vpcs") && e.contains(why), "{list}: {e}");
        }
    }
}
