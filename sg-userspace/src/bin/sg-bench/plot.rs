//! Curves as SVG: both axes logarithmic, as numbers grow by tens.

use std::fmt::Write;

use crate::figures::{Curve, short};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Left, right, top, bottom.
const MARGIN: [f64; 4] = [64.0, 220.0, 36.0, 48.0];
/// Told apart by those who see few colours, too (Okabe and Ito).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A logarithmic axis.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = values.filter(|v| *v > 0.0).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (from, mut to) = (low.log10().floor(), high.log10().ceil());
        if to <= from {
            to = from + 1.0;
        }
        Self { from, to, start, end }
    }
    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.start)
    }
    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|e| 10f64.powi(e))
    }
}

/// Draws the curves of one plot.
pub fn svg(title: &str, curves: &[&Curve]) -> String {
    let [left, right, top, bottom] = MARGIN;
    let points = || curves.iter().flat_map(|c| c.points.iter().copied());
    let x = Axis::new(points().map(|p| p.0), left, WIDTH - right);
    let y = Axis::new(points().map(|p| p.1), HEIGHT - bottom, top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n"
    );
    for value in x.decades() {
        let at = x.at(value);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {:.1}V{top}\" stroke=\"#ddd\"/>", HEIGHT - bottom);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - bottom + 16.0,
            round(value)
        );
    }
    for value in y.decades() {
        let at = y.at(value);
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", WIDTH - right);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            round(value)
        );
    }
    let (over, unit) = curves.first().map_or(("", ""), |c| (c.over, c.unit));
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{over}</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 10.0
    );
    let _ = writeln!(
        svg,
        "<text x=\"14\" y=\"{:.1}\" transform=\"rotate(-90 14 {0:.1})\" text-anchor=\"middle\">{unit}</text>",
        HEIGHT / 2.0
    );
    for (i, curve) in curves.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let line: Vec<String> = curve.points.iter().map(|p| format!("{:.1},{:.1}", x.at(p.0), y.at(p.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for p in &curve.points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"><title>{}: {}</title></circle>",
                x.at(p.0),
                y.at(p.1),
                round(p.0),
                short(p.1)
            );
        }
        let at = top + 8.0 + 18.0 * i as f64;
        let from = WIDTH - right + 12.0;
        let _ = writeln!(svg, "<path d=\"M{from:.1} {at:.1}h18\" stroke=\"{color}\" stroke-width=\"2\"/>");
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", from + 24.0, at + 4.0, curve.name);
    }
    svg + "</svg>\n"
}

/// A power of ten, or any number, as people read it.
fn round(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => format!("{v}"),
    }
}
