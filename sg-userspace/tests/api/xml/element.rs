//! XML as the daemon writes it: elements without attributes, read strictly.

use serde_json::Value;

/// An element: what is in it is text, or are elements.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

/// Characters as they were before they were written.
fn plain(text: &str) -> String {
    let mut parts = text.split('&');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or_else(|| panic!("an ampersand that begins nothing: {text}"));
        all += match name {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "#13" => "\r",
            other => panic!("&{other}; in {text}"),
        };
        all += rest;
    }
    all
}

impl Element {
    /// Takes one, to its end, from a text.
    pub fn take(text: &mut &str) -> Self {
        let open = text.strip_prefix('<').unwrap_or_else(|| panic!("no element: {text}"));
        let (name, rest) = open.split_once('>').unwrap();
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name} is no name");
        *text = rest;
        let mut all = Self { name: name.to_owned(), text: String::new(), children: Vec::new() };
        let end = format!("</{name}>");
        loop {
            if let Some(rest) = text.strip_prefix(&end) {
                *text = rest;
                assert!(all.text.is_empty() || all.children.is_empty(), "text between elements: {all:?}");
                return all;
            }
            if text.starts_with('<') {
                all.children.push(Self::take(text));
                continue;
            }
            let at = text.find('<').unwrap_or_else(|| panic!("{name} has no end"));
            all.text += &plain(&text[..at]);
            *text = &text[at..];
        }
    }

    /// The elements of a name in it.
    pub fn all(&self, name: &str) -> Vec<&Self> {
        self.children.iter().filter(|c| c.name == name).collect()
    }

    /// The only element of a name in it.
    #[track_caller]
    pub fn one(&self, name: &str) -> &Self {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {self:?}");
        all[0]
    }

    /// Whether it says what a value of JSON says: a list repeats its element.
    #[track_caller]
    pub fn says(&self, value: &Value) {
        let name = &self.name;
        match value {
            Value::Object(fields) => {
                assert!(self.text.is_empty(), "{name} has text: {self:?}");
                for child in &self.children {
                    assert!(fields.contains_key(&child.name), "{} of {name} is not in the other", child.name);
                }
                for (field, value) in fields.iter().filter(|(field, _)| *field != "RequestId") {
                    match value {
                        Value::Array(items) => {
                            let all = self.all(field);
                            assert_eq!(all.len(), items.len(), "{field} of {name}");
                            all.iter().zip(items).for_each(|(one, item)| one.says(item));
                        }
                        value => self.one(field).says(value),
                    }
                }
            }
            value => {
                assert!(self.children.is_empty(), "{name}: {self:?}");
                assert_eq!(self.text, value.as_str().map_or_else(|| value.to_string(), str::to_owned), "{name}");
            }
        }
    }
}
