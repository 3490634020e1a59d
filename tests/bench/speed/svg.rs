//! Curves as an SVG that can be read on white and on black.

use std::fmt::Write as _;

/// One panel: curves over a logarithmic axis.
pub struct Panel {
    /// What stands over it.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
    /// Whether the upright axis is logarithmic as well.
    pub logarithmic: bool,
}

/// A curve with a name; which of the colours it has is the same in all panels.
pub struct Curve {
    /// The name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Sizes in pixels: of a panel's field, and of what is around it.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 64.0;
const RIGHT: f64 = 18.0;
const BOTTOM: f64 = 44.0;

/// Colours that differ in brightness too (Okabe and Ito), on white and on black.
const STYLE: &str = "\
text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.g{stroke:#d0d7de}.a{stroke:#57606a}
.c{fill:none;stroke-width:2}.c0{stroke:#d55e00}.c1{stroke:#0072b2}.c2{stroke:#009e73}.c3{stroke:#8c6bb1}
.p0{fill:#d55e00}.p1{fill:#0072b2}.p2{fill:#009e73}.p3{fill:#8c6bb1}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#30363d}.a{stroke:#8b949e}
.c1{stroke:#56b4e9}.p1{fill:#56b4e9}.c2{stroke:#2ec4a0}.p2{fill:#2ec4a0}.c3{stroke:#cc99ff}.p3{fill:#cc99ff}}";

/// Draws the panels side by side over the same `axis`, a word for what lies on it.
pub fn draw(title: &str, axis: &str, ticks: &[usize], panels: &[Panel]) -> String {
    let step = LEFT + WIDTH + RIGHT;
    let (width, height) = (step * panels.len() as f64, TOP + HEIGHT + BOTTOM);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n"
    );
    if let Some(panel) = panels.first() {
        legend(&mut text, panel);
    }
    for (number, panel) in panels.iter().enumerate() {
        let _ = writeln!(
            text,
            "<g transform=\"translate({} {TOP})\">",
            step * number as f64 + LEFT
        );
        field(&mut text, axis, ticks, panel);
        text += "</g>\n";
    }
    text + "</svg>\n"
}

fn legend(text: &mut String, panel: &Panel) {
    let mut x = LEFT;
    for (number, curve) in panel.curves.iter().enumerate() {
        let _ = writeln!(
            text,
            "<circle class=\"p{number}\" cx=\"{x}\" cy=\"16\" r=\"5\"/>\
             <text x=\"{}\" y=\"20\">{}</text>",
            x + 10.0,
            curve.name
        );
        x += 34.0 + 7.0 * curve.name.len() as f64;
    }
}

fn field(text: &mut String, axis: &str, ticks: &[usize], panel: &Panel) {
    let all = || panel.curves.iter().flat_map(|curve| &curve.points);
    let most = all().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let least = all().map(|(_, y)| *y).fold(most, f64::min);
    let marks = if panel.logarithmic {
        powers(least, most)
    } else {
        steps(most)
    };
    let (low, high) = (
        marks.first().copied().unwrap_or(0.0),
        marks.last().copied().unwrap_or(1.0),
    );
    let y = |value: f64| {
        let part = if panel.logarithmic {
            (value / low).ln() / (high / low).ln()
        } else {
            value / high
        };
        HEIGHT * (1.0 - part)
    };
    let (first, last) = (
        ticks.first().map_or(1.0, |tick| *tick as f64),
        ticks.last().map_or(10.0, |tick| *tick as f64),
    );
    let x = |value: f64| WIDTH * (value / first).ln() / (last / first).ln();

    let _ = writeln!(text, "<text class=\"t\" y=\"-14\">{}</text>", panel.title);
    for mark in marks {
        let y = y(mark);
        let _ = writeln!(
            text,
            "<line class=\"g\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            label(mark)
        );
    }
    for tick in ticks {
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            x(*tick as f64),
            HEIGHT + 16.0
        );
    }
    let _ = writeln!(
        text,
        "<line class=\"a\" x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{axis}</text>",
        WIDTH / 2.0,
        HEIGHT + 34.0
    );
    for (number, curve) in panel.curves.iter().enumerate() {
        let at = |(a, b): &(f64, f64)| format!("{:.1},{:.1}", x(*a), y(*b));
        let points: Vec<_> = curve.points.iter().map(at).collect();
        let points = points.join(" ");
        let _ = writeln!(
            text,
            "<polyline class=\"c c{number}\" points=\"{points}\"/>"
        );
        for (a, b) in &curve.points {
            let (x, y) = (x(*a), y(*b));
            let _ = writeln!(
                text,
                "<circle class=\"p{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
    }
}

/// Powers of ten around all that there is.
fn powers(least: f64, most: f64) -> Vec<f64> {
    let low = least.log10().floor() as i32;
    let high = (most.log10().ceil() as i32).max(low + 1);
    (low..=high).map(|power| 10_f64.powi(power)).collect()
}

/// From 0 to no less than this, in four to eight even steps.
fn steps(most: f64) -> Vec<f64> {
    let power = 10_f64.powf(most.log10().floor());
    let step = [0.2, 0.25, 0.5, 1.0, 2.0]
        .map(|part| part * power)
        .into_iter()
        .find(|step| most / step <= 7.0)
        .unwrap_or(power);
    let count = (most / step).ceil() as usize;
    (0..=count).map(|number| step * number as f64).collect()
}

fn label(value: f64) -> String {
    if value >= 1.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}
