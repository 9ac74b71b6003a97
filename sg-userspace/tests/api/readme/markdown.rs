//! What stands in our Markdown files: blocks of code, commands in them with what they
//! print, code within a line, links.

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// Line of its first line.
    pub line: usize,
    /// What stands behind the fence: `sh`, `console`, `yaml` …
    pub kind: String,
    pub text: String,
}

/// A command, and what the file shows of its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub line: usize,
    /// As it stands there, the document that it reads included.
    pub text: String,
    pub shows: Vec<String>,
}

impl Command {
    /// Its first line, without what is said about it.
    pub fn name(&self) -> &str {
        let first = self.text.lines().next().unwrap_or_default();
        // A `#` within a word or within quotes is none of ours.
        first.split_once(" # ").map_or(first, |(command, _)| command).trim_end()
    }
}

/// All blocks.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open) {
            (Some(kind), false) => all.push(Block { line: number + 2, kind: kind.trim().into(), text: String::new() }),
            (None, true) => {
                let block = all.last_mut().unwrap();
                block.text += line;
                block.text.push('\n');
            }
            _ => {}
        }
        open ^= line.starts_with("```");
    }
    assert!(!open, "a block does not end");
    all
}

/// Commands of a block: each line of `sh`; in `console` those after `$ `, what follows each
/// is its output. A document (`<<'EOF'`) belongs to its command.
pub fn commands(block: &Block) -> Vec<Command> {
    let mut all: Vec<Command> = Vec::new();
    let mut document: Option<&str> = None;
    for (number, line) in block.text.lines().enumerate() {
        let begins = match block.kind.as_str() {
            "sh" => Some(line).filter(|l| !l.is_empty() && !l.starts_with('#')),
            _ => line.strip_prefix("$ "),
        };
        if let Some(end) = document {
            let command = &mut all.last_mut().unwrap().text;
            *command = format!("{command}\n{line}");
            if line == end {
                document = None;
            }
        } else if let Some(text) = begins {
            document = text.split_once("<<'").and_then(|(_, rest)| rest.split('\'').next());
            all.push(Command { line: block.line + number, text: text.into(), shows: Vec::new() });
        } else if block.kind != "sh" {
            all.last_mut().unwrap_or_else(|| panic!("line {}: output of what?", block.line)).shows.push(line.into());
        }
    }
    assert_eq!(document, None, "line {}: a document does not end", block.line);
    all
}

/// What is outside of blocks.
fn prose(text: &str) -> String {
    let mut open = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.starts_with("```");
        if !open && !fence {
            prose += line;
        }
        prose.push('\n');
        open ^= fence;
    }
    prose
}

/// Code within lines, and its line; what is broken over two lines is one.
pub fn spans(text: &str) -> Vec<(usize, String)> {
    let prose = prose(text);
    let mut all = Vec::new();
    for (number, paragraph) in paragraphs(&prose) {
        for (i, part) in paragraph.split('`').enumerate().filter(|(i, _)| i % 2 == 1) {
            let before: String = paragraph.split('`').take(i).collect();
            all.push((number + before.matches('\n').count(), part.replace('\n', " ").replace("\\|", "|")));
        }
    }
    all
}

/// Runs of lines with nothing empty between them, and the line of each.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() {
            open = false;
        } else if open {
            let paragraph = &mut all.last_mut().unwrap().1;
            *paragraph = format!("{paragraph}\n{line}");
        } else {
            open = true;
            all.push((number + 1, line.into()));
        }
    }
    all
}

/// Where links lead.
pub fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let ends = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(to, _)| to.to_owned()).collect()
}

/// Whether an output is what a file shows of it. Spaces count as one; `…` is anything within
/// a line, and any lines where it stands alone. The first line that is not as shown is said.
pub fn compare(shown: &[String], output: &str) -> Result<(), String> {
    let line = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |all: &mut dyn Iterator<Item = &str>| all.map(line).filter(|l| !l.is_empty()).collect::<Vec<String>>();
    let shown = lines(&mut shown.iter().map(String::as_str));
    let output = lines(&mut output.lines());
    follow(&shown, &output).map_err(|far| {
        let end = "(the end)".to_owned();
        format!("{:?} is shown, {:?} is printed", shown.get(far.0).unwrap_or(&end), output.get(far.1).unwrap_or(&end))
    })
}

/// How far both go together, where they do not to the end.
fn follow(shown: &[String], output: &[String]) -> Result<(), (usize, usize)> {
    let Some(first) = shown.first() else { return if output.is_empty() { Ok(()) } else { Err((0, 0)) } };
    if first == "…" {
        let mut far = (0, 0);
        for skipped in 0..=output.len() {
            match follow(&shown[1..], &output[skipped..]) {
                Ok(()) => return Ok(()),
                Err((a, b)) => far = far.max((a + 1, b + skipped)),
            }
        }
        return Err(far);
    }
    match output.first() {
        Some(line) if fits(first, line) => follow(&shown[1..], &output[1..]).map_err(|(a, b)| (a + 1, b + 1)),
        _ => Err((0, 0)),
    }
}

/// Whether a line is as shown.
fn fits(shown: &str, line: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else { return shown == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    let starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.into_iter().any(|at| fits(after, &rest[at..]))
}

#[test]
fn blocks_commands_and_code_are_found() {
    let text = "a `b c` [d](e.md) `f\ng`\n\n```console\n$ one \\# x # two\nout …\n\n$ cat > f <<'EOF'\n$ no\nEOF\n```\n\
                | `x\\|y` |\n```sh\n# nothing\nrun `it` # why\n```\n";
    assert_eq!(spans(text), [(1, "b c".into()), (1, "f g".into()), (12, "x|y".into())]);
    assert_eq!(links(text), ["e.md"]);
    let all: Vec<Command> = blocks(text).iter().flat_map(commands).collect();
    let names: Vec<(usize, &str)> = all.iter().map(|c| (c.line, c.name())).collect();
    assert_eq!(names, [(5, "one \\# x"), (8, "cat > f <<'EOF'"), (15, "run `it`")]);
    assert_eq!((all[0].shows.as_slice(), all[1].shows.len()), (&["out …".to_owned(), String::new()][..], 0));
    assert_eq!(all[1].text, "cat > f <<'EOF'\n$ no\nEOF");
}

#[test]
fn an_output_is_compared_with_what_is_shown() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let output = " name   id\n web    sg-12 x\n\n db     sg-13 y\n2 groups\n";
    for good in ["name id\nweb sg-… x\ndb sg-13 …\n2 groups", "…\n2 groups", "name id\n…", "…", "…\ndb …y\n…\n…"]
    {
        assert_eq!(compare(&shown(good), output), Ok(()), "{good}");
    }
    for bad in ["", "name id", "name id\nweb …y\n…", "…\nweb sg-12 x\n2 groups", "…\n3 groups", "… id\n…z\n…"]
    {
        assert!(compare(&shown(bad), output).is_err(), "{bad}");
    }
    let said = compare(&shown("name id\nweb sg-9 x\n…"), output).unwrap_err();
    assert_eq!(said, "\"web sg-9 x\" is shown, \"web sg-12 x\" is printed");
}
