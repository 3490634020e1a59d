//! Reads the valid part of a broken configuration.
//!
//! Lines that are not TOML are skipped, and each key that is valid by itself is set. An invalid key
//! keeps its default, unless the default could enable what the file was written to disable:
//!
//! - A key or line that may be `listen`, and does not name a socket, switches the bridge off. One
//!   that may be `when`, and names neither "auto" nor "always", switches the tunnel off. A misspelt
//!   key, a wrong section and a skipped line count.
//! - A problem in `[tunnel]` switches the tunnel off, one in `[metadata]` the cache, and one in
//!   `[report]` the guest attributes and the `report.url` of the document. A skipped line switches
//!   all of these off, since it may belong to any section.
//!
//! `allow_cids` and `sshd` keep their defaults, the host and the search: no way in is lost by them.

use toml::{Table, Value};

use super::keys::{self, Problem};
use super::values::is_near;
use super::{Cache, Config, GuestAttributes, Listen, ReportUrl, kept};
use crate::metadata::document::When;

/// The most syntax errors that are skipped. A file with more is ignored as a whole.
const MOST: usize = 64;

/// The valid part of a broken configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Salvaged {
    pub(super) config: Config,
    /// The file switches the bridge off.
    pub(super) no_bridge: bool,
    /// The file switches the tunnel off.
    pub(super) no_tunnel: bool,
    /// The problems: syntax errors in the order of the file, then the rest by section and key.
    pub(super) problems: Vec<String>,
}

/// Reads the valid part of `text`.
pub(super) fn salvage(text: &str) -> Salvaged {
    salvage_by(text, Problem::may_be_in)
}

/// Reads a copy of a good file. A section that is unknown here belongs to another version: it is no
/// misspelt one.
pub(super) fn salvage_copy(text: &str) -> Config {
    salvage_by(text, Problem::is_in).config
}

fn salvage_by(text: &str, is_in: fn(&Problem, &str) -> bool) -> Salvaged {
    let Legible {
        table,
        left_out,
        mut problems,
    } = legible(text);
    let (mut config, found) = keys::read(&table);
    let lost = !left_out.is_empty();
    let doubtful = |section| lost || found.iter().any(|problem| is_in(problem, section));
    let table = Value::Table(table);
    let denied = |key: &Key| {
        left_out.iter().any(|line| key.is_denied_in_line(line)) || key.is_denied_in(&table)
    };
    let (no_bridge, no_tunnel) = (denied(&LISTEN), denied(&WHEN));
    if no_bridge {
        config.listen = Listen::Off;
    }
    if no_tunnel || doubtful("tunnel") {
        config.when = Some(When::Never);
    }
    if doubtful("metadata") {
        config.cache = Cache::Off;
    }
    if doubtful("report") {
        config.guest_attributes = GuestAttributes::Never;
        if config.report_url == ReportUrl::Document {
            config.report_url = ReportUrl::Off;
        }
    }
    let all = config.max_connections;
    config.max_connections_per_origin = config.max_connections_per_origin.map(|own| own.min(all));
    problems.extend(found.iter().map(Problem::to_string));
    Salvaged {
        config,
        no_bridge,
        no_tunnel,
        problems,
    }
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
    for line in 0..lines.len() {
        if code(lines[line]).contains(char::REPLACEMENT_CHARACTER) {
            legible.problems.push(kept::not_utf8(line + 1));
            legible.left_out.extend(leave_out(&mut lines, line));
        }
    }
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
        legible.left_out.extend(leave_out(&mut lines, line));
    }
    legible.left_out.extend(lines);
    legible
}

/// Empties a line. Below a header, TOML would read the keys as those of the previous section: all
/// lines of the section are emptied then.
fn leave_out<'a>(lines: &mut [&'a str], at: usize) -> Vec<&'a str> {
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let mut end = at + 1;
    if is_header(&lines[at]) {
        let next = lines[end..].iter().position(is_header);
        end = next.map_or(lines.len(), |next| end + next);
    }
    lines[at..end].iter_mut().map(std::mem::take).collect()
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split_once('#').map_or(line, |(code, _)| code)
}

/// A key that can switch a way in off.
struct Key {
    name: &'static str,
    /// How far a word may differ from the name.
    distance: usize,
    /// Whether a value leaves the way in on.
    allows: fn(&str) -> bool,
}

const LISTEN: Key = Key {
    name: "listen",
    distance: 2,
    allows: |value| {
        value.contains(|c: char| c == '/' || matches!(c, '1'..='9'))
            || words(value).any(|(word, _)| is_near(word, "vsock") || is_near(word, "unix"))
    },
};

const WHEN: Key = Key {
    name: "when",
    distance: 1,
    allows: |value| words(value).any(|(word, _)| is_near(word, "auto") || is_near(word, "always")),
};

impl Key {
    fn is(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        word.contains(self.name) || strsim::levenshtein(&word, self.name) <= self.distance
    }

    fn is_denied_in(&self, value: &Value) -> bool {
        match value {
            Value::Table(table) => table.iter().any(|(key, value)| {
                (self.is(key) && !self.is_allowed_by(value)) || self.is_denied_in(value)
            }),
            Value::Array(list) => list.iter().any(|value| self.is_denied_in(value)),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => false,
        }
    }

    fn is_allowed_by(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => (self.allows)(&text.to_lowercase()),
            Value::Integer(number) => (self.allows)(&number.to_string()),
            Value::Array(list) => list.iter().any(|value| self.is_allowed_by(value)),
            Value::Table(table) => table.iter().any(|(_, value)| self.is_allowed_by(value)),
            Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
        }
    }

    /// Whether a line that is not TOML has this key, and no value that leaves the way in on. The
    /// value is the text up to the next blank or comma.
    fn is_denied_in_line(&self, line: &str) -> bool {
        // In UTF-16, each ASCII character has a NUL beside it.
        let line = code(line).replace('\0', "").to_lowercase();
        words(&line).any(|(word, after)| {
            let value = after.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '/');
            let end = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '}');
            let value = value.split(end).next().unwrap_or_default();
            self.is(word) && !(self.allows)(value)
        })
    }
}

/// The words of a text, each with the text after it.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| !in_word(c));
        let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some((word, after))
    })
}

#[cfg(test)]
mod tests;
