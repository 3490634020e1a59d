//! A mapping of the document, and its keys: known, unknown, misspelt and in the wrong place.

use serde_json::{Map, Value};

use super::DocumentFault;
use super::cursor::{Cursor, REPEATED};
use crate::metadata::tree::{TWICE, is_bare};

/// A mapping, and the keys that the reader has asked for.
pub(super) struct Fields<'a> {
    path: String,
    entries: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The entries of the mapping at `path`.
    pub(super) fn new(path: String, entries: &'a Map<String, Value>) -> Self {
        let known = Vec::new();
        Self {
            path,
            entries,
            known,
        }
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of `key`; null counts as missing.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.known.push(key);
        let value = self.entries.get(key).filter(|value| !value.is_null())?;
        let path = self.path(key);
        Some(Cursor::at(path, value))
    }

    /// Whether `key` is present, with or without a value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether `key` has no value here.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.entries.get(key).is_none_or(Value::is_null)
    }

    /// Whether `key` is present more than once.
    pub(super) fn repeats(&self, key: &str) -> bool {
        self.entries.contains_key(&format!("{key}{TWICE}"))
    }

    /// Whether `key` has no value in the text, not even `null`.
    pub(super) fn is_bare(&self, key: &str) -> bool {
        is_bare(self.entries, key)
    }

    /// The first unknown key, as a fault quotes it.
    pub(super) fn stranger(&self) -> Option<String> {
        self.unknown().next().map(shown)
    }

    /// Refuses unknown keys that are in `keys`: they belong to the mapping at `place`.
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

    /// The value of `key`, which is required; `expected` describes it in a fault.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Result<Cursor<'a>, DocumentFault> {
        self.optional(key)
            .ok_or_else(|| self.missing(key, expected))
    }

    /// The fault that `key` is missing.
    pub(super) fn missing(&self, key: &str, expected: &str) -> DocumentFault {
        let path = self.path(key);
        if self.has(key) {
            let advice =
                format!("Write a value for {key}. One that begins with #, & or ! needs quotes.");
            return DocumentFault::value(&path, format!("empty, expected {expected}"), &advice);
        }
        // A similar key is the likely cause.
        let advice = match self.unknown().find(|found| is_near(found, key)) {
            Some(found) => format!("Rename {} to {key}.", self.path(&shown(found))),
            None => format!("Add the key {key} there."),
        };
        let problem = format!("missing, expected {expected}");
        DocumentFault::value(&path, problem, &advice)
    }

    fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let keys = self.entries.keys().map(String::as_str);
        keys.filter(|key| !self.known.contains(key) && !key.ends_with(TWICE))
    }

    /// Ends the mapping. Returns a warning for each unknown key, and for each key that occurs
    /// twice.
    ///
    /// # Errors
    /// An unknown key is similar to a known key that has no value: it is likely a misspelling, and
    /// the document without that key would have another meaning.
    pub(super) fn finish(self, warnings: &mut Vec<String>) -> Result<(), DocumentFault> {
        let twice = self
            .entries
            .keys()
            .filter_map(|key| key.strip_suffix(TWICE))
            .filter(|key| !key.ends_with(TWICE));
        for key in twice {
            let path = self.path(&shown(key));
            warnings.push(format!(
                "{path}: written more than once; the last one counts"
            ));
        }
        for key in self.unknown() {
            let path = self.path(&shown(key));
            let near = || self.known.iter().filter(|known| is_slip(key, known));
            if let Some(meant) = near().find(|known| self.lacks(known) && is_certain(key, known)) {
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
/// of four letters or more, or one wrong letter for each three, but at least one and at most three.
pub(super) fn is_near(found: &str, known: &str) -> bool {
    let (found, known) = (fold(found), fold(known));
    let slips = match known.len() {
        ..=4 => 1,
        long => long.div_ceil(3).min(3),
    };
    (found.len() >= 4 && known.starts_with(&found))
        || strsim::damerau_levenshtein(&found, &known) <= slips
}

/// Whether `found` is similar to `known`, and not another word that a document could hold. Many
/// other words are similar to a short one: in a word shorter than `LONG`, two letters may be wrong,
/// and with two the first letter must be right. So `revision` and `session` do not count as
/// `version`.
fn is_slip(found: &str, known: &str) -> bool {
    /// From this length of `known` on, each similar word counts as a misspelling.
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

/// Whether the misspelling `found` of `known` is a fault. Many words of other programs are similar to
/// the keys in `COMMON`: only one wrong letter there is a fault, and else a warning.
fn is_certain(found: &str, known: &str) -> bool {
    const COMMON: [&str; 3] = ["report", "public_host", "origins"];
    !COMMON.contains(&known) || strsim::damerau_levenshtein(&fold(found), &fold(known)) <= 1
}

/// A key without its case and its separators, which misspellings often change.
fn fold(key: &str) -> String {
    let letters = key.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// A key as a fault quotes it.
pub(super) fn shown(key: &str) -> String {
    let short: String = key.chars().take(REPEATED).collect();
    short.escape_debug().to_string()
}
