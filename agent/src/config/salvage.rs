//! Reads the valid part of a broken configuration.
//!
//! Lines that are not TOML are skipped, and each key that is valid by itself is set. An invalid key
//! keeps its default, unless the default could enable what the file was written to disable:
//!
//! - A value of `listen` that can mean "off" switches the bridge off, also without quotes, under a
//!   misspelt key or in a wrong section.
//! - A problem in `[tunnel]` switches the tunnel off, and one in `[report]` the guest attributes. A
//!   line that is not TOML switches both off, since it may belong to either section.

use toml::{Table, Value};

use super::keys::{self, Problem};
use super::values::is_near;
use super::{Config, GuestAttributes, Listen};
use crate::metadata::document::When;

/// The most syntax errors that are skipped. A file with more is ignored as a whole.
const MOST: usize = 64;

/// Words that people write to switch something off.
const OFF: [&str; 10] = [
    "", "off", "of", "no", "none", "never", "false", "disable", "disabled", "0",
];

/// The valid part of a broken configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) config: Config,
    /// The problems: syntax errors in the order of the file, then the rest by section and key.
    pub(super) problems: Vec<String>,
}

/// Reads the valid part of `text`.
pub(super) fn salvage(text: &str) -> Salvaged {
    let Legible {
        table,
        left_out,
        mut problems,
    } = legible(text);
    let (mut config, found) = keys::read(&table);
    let in_section = |name| found.iter().any(|problem| problem.may_be_in(name));
    let lost = !problems.is_empty();
    if lost || in_section("tunnel") {
        config.when = Some(When::Never);
    }
    if lost || in_section("report") {
        config.guest_attributes = GuestAttributes::Never;
    }
    let all = config.max_connections;
    config.max_connections_per_origin = config.max_connections_per_origin.map(|own| own.min(all));
    if left_out.iter().any(|line| line_means_off(line)) || means_off(&table) {
        config.listen = Listen::Off;
    }
    problems.extend(found.iter().map(Problem::to_string));
    Salvaged { config, problems }
}

/// The part of a file that is valid TOML.
#[derive(Default)]
struct Legible<'a> {
    table: Table,
    left_out: Vec<&'a str>,
    problems: Vec<String>,
}

fn legible(text: &str) -> Legible<'_> {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut legible = Legible::default();
    for _ in 0..MOST {
        let rest = lines.join("\n");
        let error = match rest.parse::<Table>() {
            Ok(table) => return Legible { table, ..legible },
            Err(error) => error,
        };
        let start = error.span().map_or(rest.len(), |span| span.start);
        let before = rest.get(..start).unwrap_or(&rest);
        let at = before.matches('\n').count();
        legible.problems.push(keys::syntax(&rest, &error));
        // An error at the end of the text belongs to the last line that is not empty.
        let Some(line) = (0..=at.min(lines.len().saturating_sub(1)))
            .rev()
            .chain(at..lines.len())
            .find(|line| lines.get(*line).is_some_and(|line| !line.is_empty()))
        else {
            break;
        };
        let header = lines[line].trim_start().starts_with('[');
        let end = lines[line + 1..]
            .iter()
            .position(|next| next.trim_start().starts_with('['))
            .map_or(lines.len(), |next| line + 1 + next);
        // TOML would read the keys below a broken header as keys of the previous section.
        let end = if header { end } else { line + 1 };
        for line in &mut lines[line..end] {
            legible.left_out.push(std::mem::take(line));
        }
    }
    legible.left_out.extend(lines);
    legible
}

fn line_means_off(line: &str) -> bool {
    line.split('#')
        .next()
        .and_then(|line| line.split_once('='))
        .is_some_and(|(key, value)| is_listen(key.trim()) && word_means_off(value))
}

/// Whether a key in `table`, or in one of its sections, switches the bridge off.
fn means_off(table: &Table) -> bool {
    table.iter().any(|(key, value)| match value {
        Value::Table(section) => means_off(section),
        Value::String(word) => is_listen(key) && word_means_off(word),
        Value::Integer(0) | Value::Boolean(false) => is_listen(key),
        Value::Array(list) => is_listen(key) && list.is_empty(),
        Value::Integer(_) | Value::Boolean(true) | Value::Float(_) | Value::Datetime(_) => false,
    })
}

fn is_listen(key: &str) -> bool {
    is_near(&key.to_lowercase(), "listen")
}

fn word_means_off(value: &str) -> bool {
    let word = value.trim().trim_matches(['"', '\'']).trim().to_lowercase();
    OFF.contains(&word.as_str())
}

#[cfg(test)]
mod tests;
