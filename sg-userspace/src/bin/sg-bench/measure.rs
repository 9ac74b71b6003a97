//! Rounds, medians, spread: every contestant runs once a round, so that what
//! disturbs the machine disturbs all of them.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};

/// Something that is measured; returns one sample.
pub struct Contestant<'a> {
    /// What it is called in the table.
    pub name: String,
    run: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contestant<'a> {
    /// A name and what gives a sample.
    pub fn new(name: impl Into<String>, run: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Samples of one contestant.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// By the rounds they are of.
    rounds: Vec<f64>,
    sorted: Vec<f64>,
}

impl Samples {
    /// From what was measured, a value a round.
    pub fn new(rounds: Vec<f64>) -> Self {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        Self { rounds, sorted }
    }
    /// What is left of each round without that of another.
    pub fn without(&self, other: &Self) -> Self {
        Self::new(self.rounds.iter().zip(&other.rounds).map(|(a, b)| a - b).collect())
    }
    /// How many times another's this is: the median of the rounds, as a machine that has other
    /// guests is slower for seconds at a time. Those of other rounds are compared by their medians.
    pub fn ratio(&self, other: &Self) -> f64 {
        if self.count() != other.count() {
            return self.median() / other.median();
        }
        Self::new(self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b).collect()).median()
    }
    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
    /// The first and the third quartile.
    pub fn spread(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
    /// The value that a part `q` of them, 0 to 1, does not exceed.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.count().saturating_sub(1);
        self.sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Runs all of them, interleaved; a first round warms up and is not counted.
///
/// # Errors
/// What a contestant says, with its name.
pub fn rounds(count: usize, contestants: &mut [Contestant<'_>]) -> Result<Vec<Samples>> {
    let mut values = vec![Vec::new(); contestants.len()];
    for round in 0..=count {
        progress(&format!("round {round}/{count}"));
        for (contestant, values) in contestants.iter_mut().zip(&mut values) {
            let sample = (contestant.run)().with_context(|| contestant.name.clone())?;
            if round > 0 {
                values.push(sample);
            }
        }
    }
    progress("");
    Ok(values.into_iter().map(Samples::new).collect())
}

/// One line that the next one overwrites; where nobody looks, none.
pub fn progress(text: &str) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    eprint!("\r\x1b[K{text}");
    let _ = std::io::stderr().flush();
}

/// Binds this thread to a CPU.
///
/// # Errors
/// No such CPU.
pub fn pin(cpu: usize) -> Result<()> {
    stay_on(cpu..cpu + 1)
}

/// Lets this thread, and what it starts, run on every CPU again.
///
/// # Errors
/// The kernel refuses.
pub fn unpin() -> Result<()> {
    stay_on(0..libc::CPU_SETSIZE as usize)
}

fn stay_on(cpus: std::ops::Range<usize>) -> Result<()> {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a set with room for these, and the kernel reads as much as its size.
    let status = unsafe {
        cpus.for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("cannot stay on one CPU") }
}
