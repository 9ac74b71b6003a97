//! What was measured, against what, and whether that is enough.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::measure::Samples;

/// A bound on a figure's ratio, or on its value if it has none.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At most.
    Most(f64),
    /// At least.
    Least(f64),
}

impl Bound {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Most(most) => write!(f, "≤ {}", bound(*most)),
            Self::Least(least) => write!(f, "≥ {}", bound(*least)),
        }
    }
}

/// A bound as it is said: 1.6, 250, or to two places where it was calculated.
fn bound(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Which part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub name: String,
    /// Median.
    pub value: f64,
    /// First and third quartile.
    pub spread: (f64, f64),
    /// Of what.
    pub unit: &'static str,
    /// Its peer.
    pub against: Option<String>,
    /// The peer's median.
    pub peer: Option<f64>,
    /// Value over peer, or peer over value where more is better that way.
    pub ratio: Option<f64>,
    /// What must be.
    pub goal: Option<String>,
    /// What we are after.
    pub aim: Option<String>,
    /// Whether the goal is met.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure by itself.
    pub fn new(part: &'static str, name: impl Into<String>, unit: &'static str, samples: &Samples) -> Self {
        Self {
            part,
            name: name.into(),
            value: samples.median(),
            spread: samples.spread(),
            unit,
            against: None,
            peer: None,
            ratio: None,
            goal: None,
            aim: None,
            met: None,
        }
    }

    /// Beside a peer of the same rounds: the ratio is value over peer.
    pub fn beside(mut self, name: impl Into<String>, samples: &Samples, peer: &Samples) -> Self {
        self = self.over(name, peer.median());
        self.ratio = Some(samples.ratio(peer));
        self
    }

    /// Beside a peer that is one number: the ratio is value over peer.
    pub fn over(mut self, name: impl Into<String>, peer: f64) -> Self {
        self.against = Some(name.into());
        self.peer = Some(peer);
        self.ratio = Some(self.value / peer);
        self
    }

    /// Beside a peer that we want to be faster than: the ratio is peer over value.
    pub fn faster_than(mut self, name: impl Into<String>, samples: &Samples, peer: &Samples) -> Self {
        self = self.over(name, peer.median());
        self.ratio = Some(peer.ratio(samples));
        self
    }

    /// With a goal and an aim, of the ratio if there is one.
    pub fn goal(mut self, goal: Bound, aim: Option<Bound>) -> Self {
        self.met = Some(goal.met(self.ratio.unwrap_or(self.value)));
        self.goal = Some(goal.to_string());
        self.aim = aim.map(|a| a.to_string());
        self
    }
}

/// A number with three digits that matter.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "—".into(),
        v if v >= 1e6 => format!("{:.2} M", value / 1e6),
        v if v >= 1e4 => format!("{:.1} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn cells(figure: &Figure) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        figure.name.clone(),
        format!("{} {}", short(figure.value), figure.unit),
        format!("{}–{}", short(figure.spread.0), short(figure.spread.1)),
        text(&figure.against),
        figure.peer.map(short).unwrap_or_default(),
        figure.ratio.map(short).unwrap_or_default(),
        text(&figure.goal),
        text(&figure.aim),
        figure.met.map_or("", |met| if met { "met" } else { "short" }).into(),
    ]
}

const HEAD: [&str; 9] = ["figure", "median", "quartiles", "beside", "its median", "ratio", "goal", "aim", ""];

/// The table for the terminal.
pub fn terminal(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(HEAD);
    for figure in figures {
        let color = figure.met.map_or(Color::Reset, |met| if met { Color::Green } else { Color::Red });
        let mut row: Vec<Cell> = cells(figure).into_iter().map(Cell::new).collect();
        if let Some(last) = row.pop() {
            row.push(last.fg(color));
        }
        table.add_row(row);
    }
    table.to_string()
}

/// What a plot shows: a line for each name, over a number of something.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// What is plotted, and the plot's file name.
    pub plot: &'static str,
    /// What grows.
    pub over: &'static str,
    /// Unit of the values.
    pub unit: &'static str,
    /// The line.
    pub name: String,
    /// Number and median.
    pub points: Vec<(f64, f64)>,
}

/// The table for a document.
pub fn markdown(figures: &[Figure]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(HEAD.map(String::from).to_vec());
    text += &line(HEAD.map(|_| "---".to_owned()).to_vec());
    for figure in figures {
        text += &line(cells(figure));
    }
    text
}
