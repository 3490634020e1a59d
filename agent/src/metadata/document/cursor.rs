//! A place in the document that knows its own path, so that every complaint can name it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::DocumentFault;
use crate::metadata::tree::TWICE;

/// The longest text of the document that a complaint repeats. A line of a private key is longer.
const REPEATED: usize = 40;

/// A value and the path that leads to it: `tunnel.proxies[0].port`.
pub(super) struct Cursor<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Cursor<'a> {
    /// The root; its keys are named without a prefix.
    pub(super) fn root(value: &'a Value) -> Self {
        let path = String::new();
        Self { path, value }
    }

    /// What a complaint about this place says: the sentence and what to do.
    pub(super) fn fault(&self, problem: impl Display, advice: &str) -> DocumentFault {
        DocumentFault::value(&self.path, problem, advice)
    }

    fn unexpected(&self, expected: impl Display) -> DocumentFault {
        let problem = format!("found {}, expected {expected}", describe(self.value));
        self.fault(problem, &format!("Write {expected} there."))
    }

    /// The keys of a mapping.
    pub(super) fn mapping(self) -> Result<Fields<'a>, DocumentFault> {
        let Value::Object(entries) = self.value else {
            return Err(self.unexpected("a mapping of keys to values"));
        };
        Ok(Fields {
            path: self.path,
            entries,
            known: Vec::new(),
        })
    }

    /// The items of a list; `expected` says what an item is.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Self>, DocumentFault> {
        let Value::Array(items) = self.value else {
            return Err(self.unexpected(format_args!("a list of {expected}")));
        };
        let item = |(index, value)| Self {
            path: format!("{}[{index}]", self.path),
            value,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Whether it is a list, for keys that take one or a single text.
    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// A text; `expected` says which.
    pub(super) fn text(&self, expected: &str) -> Result<&'a str, DocumentFault> {
        self.value.as_str().ok_or_else(|| self.unexpected(expected))
    }

    /// A text made of one word without spaces, such as a host name.
    pub(super) fn word(&self, expected: &str) -> Result<String, DocumentFault> {
        let text = self.text(expected)?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.contains(odd) {
            return Err(self.unexpected(expected));
        }
        Ok(text.to_owned())
    }

    /// A whole number within `range`.
    pub(super) fn port(&self, range: RangeInclusive<u16>) -> Result<u16, DocumentFault> {
        let number = self.value.as_u64().and_then(|n| u16::try_from(n).ok());
        number.filter(|port| range.contains(port)).ok_or_else(|| {
            let (least, most) = range.into_inner();
            if least == most {
                return self.unexpected(least);
            }
            self.unexpected(format_args!("{least} to {most}"))
        })
    }

    /// What `read` makes of the text; `expected` says what it accepts.
    pub(super) fn parsed<T>(
        &self,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, DocumentFault> {
        read(self.text(expected)?).ok_or_else(|| self.unexpected(expected))
    }
}

/// A mapping, and the keys that have been asked for.
pub(super) struct Fields<'a> {
    path: String,
    entries: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value under `key`; null is as good as none.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.known.push(key);
        let value = self.entries.get(key).filter(|value| !value.is_null())?;
        let path = self.path(key);
        Some(Cursor { path, value })
    }

    /// Whether `key` is there, with a value or without.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether `key` has no value here.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.entries.get(key).is_none_or(Value::is_null)
    }

    /// Whether `key` is there more than once.
    pub(super) fn repeats(&self, key: &str) -> bool {
        self.entries.contains_key(&format!("{key}{TWICE}"))
    }

    /// The first key that is not of this mapping, as a person may see it.
    pub(super) fn stranger(&self) -> Option<String> {
        self.unknown().next().map(shown)
    }

    /// Refuses unknown keys that are among `keys`: these belong to the mapping at `place`.
    pub(super) fn without(&self, keys: &[&str], place: &str) -> Result<(), DocumentFault> {
        match self.unknown().find(|found| keys.contains(found)) {
            Some(found) => {
                let problem = format!("a key of {place}, found outside it");
                let advice = format!("Move {found} into {place}, indented like its other keys.");
                Err(DocumentFault::value(&self.path(found), problem, &advice))
            }
            None => Ok(()),
        }
    }

    /// The value under `key`, which has to be there; `expected` says what it is.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Result<Cursor<'a>, DocumentFault> {
        self.optional(key)
            .ok_or_else(|| self.missing(key, expected))
    }

    /// The complaint that `key` is not there.
    pub(super) fn missing(&self, key: &str, expected: &str) -> DocumentFault {
        // A key that is almost this one is the likely reason.
        let advice = match self.unknown().find(|found| is_near(found, key)) {
            Some(found) => format!("Rename {} to {key}.", self.path(&shown(found))),
            None => format!("Add the key {key} there."),
        };
        let problem = format!("missing, expected {expected}");
        DocumentFault::value(&self.path(key), problem, &advice)
    }

    fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let keys = self.entries.keys().map(String::as_str);
        keys.filter(|key| !self.known.contains(key) && !key.ends_with(TWICE))
    }

    /// Ends the mapping. A warning for each unknown key, and for each key that is there twice.
    ///
    /// # Errors
    /// An unknown key close to a known key that has no value here: it is that key, misspelt, and
    /// without it the document would mean something else.
    pub(super) fn finish(self, warnings: &mut Vec<String>) -> Result<(), DocumentFault> {
        let twice = self
            .entries
            .keys()
            .filter_map(|key| key.strip_suffix(TWICE));
        for key in twice {
            let path = self.path(&shown(key));
            warnings.push(format!(
                "{path}: written more than once; the last one counts"
            ));
        }
        for key in self.unknown() {
            let path = self.path(&shown(key));
            let near = || self.known.iter().filter(|known| is_slip(key, known));
            if let Some(meant) = near().find(|known| self.lacks(known)) {
                let problem = format!("unknown key, and {meant} is missing");
                let advice = format!("Rename {path} to {meant}.");
                return Err(DocumentFault::value(&path, problem, &advice));
            }
            warnings.push(match near().next() {
                Some(known) => format!("{path}: unknown key; did you mean {known}?"),
                None => format!("{path}: unknown key; accepted: {}", self.known.join(", ")),
            });
        }
        Ok(())
    }
}

/// Whether `found` is likely a misspelling of `known`: another case or separator, an abbreviation
/// of four letters or more, or a wrong letter in each three (one in a short word).
pub(super) fn is_near(found: &str, known: &str) -> bool {
    let (found, known) = (fold(found), fold(known));
    let slips = match known.len() {
        ..=4 => 1,
        long => long.div_ceil(3),
    };
    (found.len() >= 4 && known.starts_with(&found))
        || strsim::damerau_levenshtein(&found, &known) <= slips
}

/// Whether `found` is near to `known`, and no other word that a document could hold. A short word
/// has many neighbours: there, two letters may be wrong, and of two not the first one. So
/// `revision` and `session` are not `version`.
fn is_slip(found: &str, known: &str) -> bool {
    /// The length of a word from which on all that is near is a slip.
    const LONG: usize = 9;
    if !is_near(found, known) {
        return false;
    }
    let (found, known) = (fold(found), fold(known));
    known.len() >= LONG
        || known.starts_with(&found)
        || match strsim::damerau_levenshtein(&found, &known) {
            0 | 1 => true,
            2 => found.chars().next() == known.chars().next(),
            _ => false,
        }
}

/// A key without what a misspelling often changes: case and separators.
fn fold(key: &str) -> String {
    let letters = key.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// A key as a complaint repeats it.
pub(super) fn shown(key: &str) -> String {
    let short: String = key.chars().take(REPEATED).collect();
    short.escape_debug().to_string()
}

/// A text as a complaint repeats it.
pub(super) fn quoted(text: &str) -> String {
    if text.len() <= REPEATED && !text.contains('\n') {
        format!("{text:?}")
    } else {
        format!("a text of {} characters", text.chars().count())
    }
}

/// What stands there. A text that is long or has lines could be a key, and is only counted.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
