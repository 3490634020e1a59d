//! All figures of all rounds, and what they come to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Figures by what was measured and whom, one for each round.
#[derive(Default)]
pub struct Sheet {
    figures: BTreeMap<(String, &'static str), BTreeMap<u32, f64>>,
    failures: Vec<String>,
}

/// A median, and between what it lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self {
            median,
            least: *values.first()?,
            most: *values.last()?,
        })
    }
}

impl Sheet {
    /// Writes a figure down.
    pub fn put(&mut self, what: &str, peer: &'static str, round: u32, figure: f64) {
        let figures = self.figures.entry((what.to_owned(), peer)).or_default();
        figures.insert(round, figure);
    }

    /// Writes down what a peer failed at.
    pub fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    /// What peers failed at, as a Markdown list.
    pub fn failures(&self) -> String {
        if self.failures.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = self.failures.iter().map(|one| one.trim()).collect();
        format!(
            "Failed, and not in the figures:\n\n- {}\n\n",
            lines.join("\n- ")
        )
    }

    /// The figures of one peer.
    pub fn spread(&self, what: &str, peer: &'static str) -> Option<Spread> {
        let figures = self.figures.get(&(what.to_owned(), peer))?;
        Spread::of(figures.values().copied().collect())
    }

    /// Round by round, how many times another's figure one's own is.
    pub fn ratio(&self, what: &str, own: &'static str, other: &'static str) -> Option<Spread> {
        let own = self.figures.get(&(what.to_owned(), own))?;
        let other = self.figures.get(&(what.to_owned(), other))?;
        let ratios = own
            .iter()
            .filter_map(|(round, figure)| Some(figure / other.get(round)?));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// All of it: what, who, and the rounds' figures with four digits that count.
    pub fn json(&self) -> Value {
        let mut all = serde_json::Map::new();
        for ((what, peer), figures) in &self.figures {
            let figures: Vec<_> = figures.values().map(|figure| rounded(*figure)).collect();
            all.entry(what)
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .map(|peers| peers.insert((*peer).to_owned(), figures.into()));
        }
        all.into()
    }
}

fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().unwrap_or(figure)
}
