//! Tests, counted as they report; what failed is kept, to be said again at the end.

/// Lines that are kept of one failed test: its first ones, where the panic is.
const LINES: usize = 14;

/// Bytes that are kept of one line.
const WIDTH: usize = 400;

/// Counts, and failures in their own words.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Those that passed.
    pub passed: u32,
    /// Those that did not.
    pub failed: u32,
    /// Of each failed test its name, then what it said.
    pub failures: Vec<Vec<String>>,
    /// What the test whose output is being read has said so far.
    open: Option<Vec<String>>,
}

impl Tally {
    /// So many that passed.
    pub fn of(passed: u32) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Takes in a line that a test program prints.
    pub fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let part = result.split([';', '.']).find(|p| p.trim_end().ends_with(what));
                part.and_then(|p| p.split_whitespace().next()).and_then(|n| n.parse::<u32>().ok()).unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
        }
        let head = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----"));
        if head.is_some() || line == "failures:" || line == "successes:" {
            self.close();
            self.open = head.map(|name| vec![name.to_owned()]);
        } else if let Some(open) = &mut self.open {
            open.push(line.chars().take(WIDTH).collect());
        }
    }

    /// The output of a test that passed has no panic in it.
    fn close(&mut self) {
        let Some(lines) = self.open.take() else { return };
        let Some(panic) = lines.iter().position(|l| l.starts_with("thread '") && l.contains(" panicked at ")) else {
            // A test that returns an error does not panic.
            if lines.iter().any(|l| l.starts_with("Error: ")) {
                self.failures.push(lines.into_iter().take(LINES).collect());
            }
            return;
        };
        let words = lines[panic..].iter().take_while(|l| *l != "stack backtrace:").take(LINES).cloned();
        self.failures.push(std::iter::once(lines[0].clone()).chain(words).collect());
    }

    /// Adds the tests of another program.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a::good ... ok
test a::bad ... FAILED

successes:

---- a::good stdout ----
it said this

successes:
    a::good

failures:

---- a::bad stdout ----
before

thread 'a::bad' (7) panicked at src/a.rs:1:2:
left is not right
stack backtrace:
   0: far too much
---- b::worse stdout ----
Error: no such file

failures:
    a::bad
    b::worse

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn failures_keep_their_words() {
        let mut tally = Tally::default();
        OUTPUT.lines().for_each(|line| tally.read(line));
        assert_eq!((tally.passed, tally.failed), (1, 2));
        let words: Vec<Vec<&str>> = tally.failures.iter().map(|f| f.iter().map(String::as_str).collect()).collect();
        assert_eq!(
            words,
            [
                vec!["a::bad", "thread 'a::bad' (7) panicked at src/a.rs:1:2:", "left is not right"],
                vec!["b::worse", "Error: no such file", ""],
            ]
        );
    }
}
