//! YAML (and so JSON) to a tree of texts with positions.
//!
//! Scalars stay the text that was written: `on`, `no`, `1e3` and `22:22` mean
//! nothing but themselves. Only `null`, `~`, nothing and `""` mean absent.

use std::{collections::HashMap, fmt, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Nodes a document may expand to; aliases count what they stand for.
pub const MAX_NODES: usize = 2_000_000;
/// Nesting that is followed.
pub const MAX_DEPTH: usize = 32;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// File name as the user gave it, or what the text is.
    pub file: Arc<str>,
    /// From 1; 0 when unknown.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Default for At {
    fn default() -> Self {
        Self { file: Arc::from(""), line: 0, column: 0 }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.file);
        }
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~`, `""` or nothing.
    Absent,
    /// The text as written.
    Scalar(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys, where they stand, and their values, in order.
    Mapping(Vec<(String, At, Node)>),
}

impl Value {
    /// For messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Scalar(_) => "a text",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// A text that is no tree: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub at: At,
    /// Why.
    pub message: String,
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    file: Arc<str>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

type Next<'a> = Result<(Event<'a>, At), SyntaxError>;

impl<'a> Builder<'a> {
    fn at(&self, line: usize, column: usize) -> At {
        At { file: self.file.clone(), line: line as u32, column: column as u32 + 1 }
    }

    fn next(&mut self) -> Next<'a> {
        loop {
            match self.parser.next() {
                Some(Ok((Event::Nothing, _))) => {}
                Some(Ok((event, Span { start, .. }))) => return Ok((event, self.at(start.line(), start.col()))),
                Some(Err(e)) => {
                    let at = self.at(e.marker().line(), e.marker().col());
                    return Err(SyntaxError { at, message: format!("not YAML: {}", e.info()) });
                }
                None => {
                    return Err(SyntaxError { at: self.at(0, 0), message: "the text ends too early".into() });
                }
            }
        }
    }

    fn count(&mut self, nodes: usize, at: &At) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message =
                format!("the document expands to more than {MAX_NODES} values (aliases count what they repeat)");
            return Err(SyntaxError { at: at.clone(), message });
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, at: At, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError { at, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        self.count(1, &at)?;
        let before = self.nodes;
        let (anchor, value) = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(SyntaxError { at, message: "an alias to an anchor that is not complete here".into() });
                };
                self.count(size, &at)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _) => {
                let absent = text.is_empty()
                    || (style == ScalarStyle::Plain && matches!(&*text, "~" | "null" | "Null" | "NULL"));
                (anchor, if absent { Value::Absent } else { Value::Scalar(text.into_owned()) })
            }
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(depth)?),
            other => return Err(SyntaxError { at, message: format!("unexpected {other:?}") }),
        };
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(String, At, Node)> = Vec::new();
        let mut lines: HashMap<String, At> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Mapping(entries));
            }
            let Value::Scalar(key) = self.node(event, at.clone(), depth + 1)?.value else {
                return Err(SyntaxError { at, message: "a key must be a text".into() });
            };
            if let Some(first) = lines.insert(key.clone(), at.clone()) {
                let message = format!("the key {key:?} stands here twice, first on line {}", first.line);
                return Err(SyntaxError { at, message });
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            entries.push((key, at, value));
        }
    }
}

/// Parses one YAML document.
///
/// # Errors
/// The first place where the text is no tree: syntax, a key twice, too deep,
/// too much, a second document.
pub fn parse(text: &str, file: &str) -> Result<Node, SyntaxError> {
    let mut builder =
        Builder { parser: Parser::new_from_str(text), file: Arc::from(file), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        match builder.next()? {
            (Event::StreamStart | Event::DocumentEnd, _) => {}
            (Event::DocumentStart(_), at) if root.is_some() => {
                let message = "a second document in one file; give it as a file of its own".into();
                return Err(SyntaxError { at, message });
            }
            (Event::DocumentStart(_), _) => {
                let (event, at) = builder.next()?;
                root = Some(builder.node(event, at, 0)?);
            }
            (Event::StreamEnd, at) => {
                return root.ok_or(SyntaxError { at, message: "the document is empty".into() });
            }
            (other, at) => return Err(SyntaxError { at, message: format!("unexpected {other:?}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        let e = parse(text, "t").unwrap_err();
        format!("{}: {}", e.at, e.message)
    }

    #[test]
    fn texts_stay_texts() {
        let Value::Mapping(m) = parse("{a: on, b: 22:22, c: 1e3, d: ~, e: '', f: 'null'}", "t").unwrap().value else {
            panic!()
        };
        let texts: Vec<_> = m
            .iter()
            .map(|(_, _, n)| match &n.value {
                Value::Scalar(s) => s.as_str(),
                _ => "-",
            })
            .collect();
        assert_eq!(texts, ["on", "22:22", "1e3", "-", "-", "null"]);
    }

    #[test]
    fn a_key_twice_names_both_lines() {
        assert_eq!(message("a: 1\nb: 2\na: 3\n"), "t:3:1: the key \"a\" stands here twice, first on line 1");
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let p = i - 1;
            text += &format!("a{i}: &a{i} [*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p},*a{p}]\n");
        }
        assert!(message(&text).contains("expands to more than"));
    }

    #[test]
    fn depth_is_bounded() {
        assert!(message(&"[".repeat(40)).contains("nested deeper"));
        assert!(parse(&"[".repeat(100_000), "t").is_err());
    }

    #[test]
    fn other_shapes_are_refused() {
        assert!(message("").contains("empty"));
        assert!(message("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(message("a: [1, 2\n").starts_with("t:"));
    }
}
