//! What an answer looks like on the wire: JSON, or XML with the action's name.

use serde_json::{Map, Value, json};

use super::error::ApiError;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `text/xml`; what V1 has when it does not say.
    Xml,
}

impl Format {
    /// The header's value.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }

    /// Writes an answer whose root is named so.
    pub fn write(self, root: &str, body: &Value) -> String {
        match self {
            Self::Json => body.to_string(),
            Self::Xml => {
                let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>");
                element(&mut text, root, body);
                text
            }
        }
    }
}

/// A request id: an upper-case UUID.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().hyphenated().encode_upper(&mut uuid::Uuid::encode_buffer()).to_owned()
}

/// The body of a good answer.
pub fn success(id: &str, body: Map<String, Value>) -> Value {
    let mut whole = Map::from_iter([("RequestId".to_owned(), Value::from(id))]);
    whole.extend(body);
    Value::Object(whole)
}

/// The body of a refusal.
pub fn refusal(id: &str, host: &str, error: &ApiError) -> Value {
    json!({"RequestId": id, "HostId": host, "Code": error.code, "Message": error.message})
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            // As it is, it would be read as the end of a line, or of a part of one.
            '\r' => text.push_str("&#13;"),
            // XML 1.0 has no way to write these.
            '\u{fffe}' | '\u{ffff}' => text.push(' '),
            c if c.is_control() && !matches!(c, '\n' | '\t') => text.push(' '),
            c => text.push(c),
        }
    }
}

fn element(text: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        items.iter().for_each(|item| element(text, name, item));
        return;
    }
    text.push_str(&format!("<{name}>"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| element(text, name, value)),
        Value::String(value) => escape(text, value),
        Value::Null => {}
        other => text.push_str(&other.to_string()),
    }
    text.push_str(&format!("</{name}>"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_repeat_their_element() {
        let body = json!({"RequestId": "R", "Tags": {"Tag": [{"TagKey": "a<b", "N": 1}, {"TagKey": ""}]}, "Ok": true});
        assert_eq!(
            Format::Xml.write("XResponse", &body),
            "<?xml version='1.0' encoding='UTF-8'?><XResponse><Ok>true</Ok><RequestId>R</RequestId><Tags><Tag><N>1</N>\
             <TagKey>a&lt;b</TagKey></Tag><Tag><TagKey></TagKey></Tag></Tags></XResponse>"
        );
        assert_eq!(Format::Json.write("XResponse", &json!({"a": 1})), "{\"a\":1}");
    }

    #[test]
    fn text_is_what_xml_can_hold() {
        let written = Format::Xml.write("R", &json!("a\r\n\tb\u{0}\u{1b}\u{fffe}\u{ffff}\u{e9}&<>\""));
        let inside = written.split_once("<R>").unwrap().1;
        assert_eq!(inside, "a&#13;\n\tb    \u{e9}&amp;&lt;&gt;&quot;</R>");
    }

    #[test]
    fn request_ids_are_upper_case_uuids() {
        let id = request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id, id.to_uppercase());
    }
}
