//! The tables: a row for each thing that was measured, and whether it is as good as it has to be.

use crate::sheet::{Sheet, Spread};

/// A row.
pub struct Row {
    /// What it is written down under.
    pub key: String,
    /// What it says.
    pub title: String,
    /// What has to be.
    pub goals: Vec<Goal>,
}

/// What has to be of vmagent's figure.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// So many times that peer's, or more.
    Least(f64, &'static str),
    /// So many times that peer's, or less.
    Most(f64, &'static str),
    /// So much, or less.
    Below(f64),
}

/// A table of these peers, the first of them with nothing in between, the second vmagent.
pub struct Table {
    /// The peers.
    pub peers: &'static [&'static str],
    /// Those that vmagent is compared with, in columns of their own.
    pub rivals: &'static [&'static str],
    /// The rows.
    pub rows: Vec<Row>,
}

/// vmagent's name.
pub const OWN: &str = "vmagent";

impl Row {
    /// A row with no goal.
    pub fn new(key: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            title: title.into(),
            goals: Vec::new(),
        }
    }

    /// The same with one more goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }
}

impl Goal {
    fn judge(self, sheet: &Sheet, key: &str) -> Option<String> {
        let (met, text) = match self {
            Self::Least(times, peer) => {
                let ratio = sheet.ratio(key, OWN, peer)?;
                (ratio.median >= times, format!("≥ {times} × {peer}"))
            }
            Self::Most(times, peer) => {
                let ratio = sheet.ratio(key, OWN, peer)?;
                (ratio.median <= times, format!("≤ {times} × {peer}"))
            }
            Self::Below(most) => {
                let figure = sheet.spread(key, OWN)?;
                (figure.median <= most, format!("≤ {most}"))
            }
        };
        let verdict = if met { "yes" } else { "**no**" };
        Some(format!("{text}: {verdict}"))
    }
}

impl Table {
    /// In Markdown; rows without a figure are left out.
    pub fn markdown(&self, sheet: &Sheet) -> String {
        let mut text = "| |".to_owned();
        for peer in self.peers {
            text += &format!(" {peer} |");
        }
        for rival in self.rivals {
            text += &format!(" {OWN} / {rival} |");
        }
        text += " required |\n|---|";
        text += &"---:|".repeat(self.peers.len() + self.rivals.len());
        text += "---|\n";
        for row in &self.rows {
            if sheet.spread(&row.key, OWN).is_some() {
                text += &self.row(sheet, row);
            }
        }
        text
    }

    fn row(&self, sheet: &Sheet, row: &Row) -> String {
        let mut cells = vec![row.title.clone()];
        for peer in self.peers {
            let spread = sheet.spread(&row.key, peer);
            cells.push(spread.map_or_else(String::new, |spread| short(spread.median)));
        }
        for rival in self.rivals {
            let ratio = sheet.ratio(&row.key, OWN, rival);
            cells.push(ratio.map_or_else(String::new, between));
        }
        let goals = row.goals.iter();
        let verdicts: Vec<_> = goals
            .filter_map(|goal| goal.judge(sheet, &row.key))
            .collect();
        cells.push(verdicts.join("; "));
        format!("| {} |\n", cells.join(" | "))
    }
}

/// The median, and the least and the most of the rounds.
fn between(spread: Spread) -> String {
    let Spread {
        median,
        least,
        most,
    } = spread;
    if least == most {
        return short(median);
    }
    format!("{} ({} to {})", short(median), short(least), short(most))
}

/// Three digits that count, and no more than that behind the point.
pub fn short(figure: f64) -> String {
    let size = figure.abs();
    let digits = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.1 {
        2
    } else {
        3
    };
    format!("{figure:.digits$}")
}
