//! A place in the document that knows its own path, so that every complaint can name it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::DocumentFault;
use super::fields::Fields;
use super::number::{NotANumber, whole};
use super::place::Slip;
use crate::config;

/// The longest text of the document that a complaint repeats. A line of a private key is longer.
pub(super) const REPEATED: usize = 40;

/// The advice for a document that is no mapping.
pub(super) const BEGIN: &str =
    "Write a mapping with the keys version and tunnel: begin with `version: 1`, without a dash.";

/// A value and the path that leads to it: `tunnel.proxies[0].port`.
pub(super) struct Cursor<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Cursor<'a> {
    /// The value at `path`.
    pub(super) fn at(path: String, value: &'a Value) -> Self {
        Self { path, value }
    }

    /// The root; its keys are named without a prefix.
    pub(super) fn root(value: &'a Value) -> Self {
        Self::at(String::new(), value)
    }

    /// What a complaint about this place says: the sentence and what to do.
    pub(super) fn fault(&self, problem: impl Display, advice: &str) -> DocumentFault {
        DocumentFault::value(&self.path, problem, advice)
    }

    /// The fault that something else is expected here.
    fn unexpected(&self, expected: impl Display) -> DocumentFault {
        let problem = format!("found {}, expected {expected}", describe(self.value));
        self.fault(problem, &self.correction())
    }

    /// The advice for a value of the wrong type.
    fn correction(&self) -> String {
        match self.value {
            Value::String(text) if text.is_empty() => {
                "Write a value there. One that begins with #, & or ! needs quotes.".to_owned()
            }
            Value::Bool(_) => {
                "Put the value in quotes if it is meant as text. YAML reads true and \
                               false as truth values, and YAML 1.1 also yes, no, on and off."
                    .to_owned()
            }
            Value::Number(_) => {
                "Put the value in quotes if it is meant as text, not as a number.".to_owned()
            }
            Value::Array(_) => {
                "Put the value in quotes: without them, YAML reads brackets as a list.".to_owned()
            }
            Value::Object(_) => "Put the value in quotes: without them, YAML reads braces, or a colon with a blank, as a mapping.".to_owned(),
            Value::Null | Value::String(_) => self.correct(),
        }
    }

    fn correct(&self) -> String {
        match self.path.as_str() {
            "" => BEGIN.to_owned(),
            path => format!("Correct the value of {path}."),
        }
    }

    /// The keys of a mapping.
    pub(super) fn mapping(self) -> Result<Fields<'a>, DocumentFault> {
        let Value::Object(entries) = self.value else {
            let problem = format!(
                "found {}, expected a mapping of keys to values",
                describe(self.value)
            );
            return Err(self.fault(problem, &self.correct()));
        };
        Ok(Fields::new(self.path, entries))
    }

    /// The items of a list; `expected` says what an item is.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Self>, DocumentFault> {
        let Value::Array(items) = self.value else {
            let problem = format!(
                "found {}, expected a list of {expected}",
                describe(self.value)
            );
            return Err(self.fault(problem, "Begin each item with a dash, also a single one."));
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
        let text = self.text(expected)?.trim();
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.contains(odd) {
            return Err(self.unexpected(expected));
        }
        Ok(text.to_owned())
    }

    /// A whole number within `range`, in quotes or without.
    pub(super) fn number(&self, range: RangeInclusive<u16>) -> Result<u16, DocumentFault> {
        let advice = match whole(self.value) {
            Ok(number) if range.contains(&number) => return Ok(number),
            Ok(_) => None,
            Err(NotANumber(advice)) => advice,
        };
        let (least, most) = range.into_inner();
        let expected = match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        let problem = format!("found {}, expected {expected}", describe(self.value));
        let advice = advice.unwrap_or_else(|| format!("Write a whole number, {expected}."));
        Err(self.fault(problem, &advice))
    }

    /// Parses the text with `read`; `expected` describes the value in a fault.
    pub(super) fn place<T>(
        &self,
        expected: &str,
        read: impl FnOnce(&str) -> Result<T, Slip>,
    ) -> Result<T, DocumentFault> {
        self.place_of(self.text(expected)?, read)
    }

    /// Parses `text`, the text found here, with `read`.
    pub(super) fn place_of<T>(
        &self,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, Slip>,
    ) -> Result<T, DocumentFault> {
        read(text).map_err(
            |Slip { problem, advice }| match problem.starts_with("expected") {
                true => self.fault(format_args!("found {}, {problem}", quoted(text)), &advice),
                false => self.fault(problem, &advice),
            },
        )
    }

    /// One of a few words, in upper or lower case. `instead` has the advice for some other words.
    pub(super) fn word_of<T: Copy>(
        &self,
        words: &[(&str, T)],
        instead: impl FnOnce(&str) -> Option<String>,
    ) -> Result<T, DocumentFault> {
        let found = match self.value {
            Value::Bool(truth) => truth.to_string(),
            Value::String(text) => text.trim().to_owned(),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => String::new(),
        };
        let known = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&found));
        known.map(|(_, meant)| *meant).ok_or_else(|| {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let (last, others) = names.split_last().unwrap_or((&"", &[]));
            let expected = format!("{} or {last}", others.join(", "));
            let problem = format!("found {}, expected {expected}", describe(self.value));
            let advice = instead(&found.to_ascii_lowercase());
            self.fault(problem, &advice.unwrap_or_else(|| self.correct()))
        })
    }

    /// The name of an account: one word without blanks in it.
    pub(super) fn account(&self) -> Result<String, DocumentFault> {
        let expected = "the name of an account";
        if let Value::Number(_) = self.value {
            let problem = format!(
                "found {}, a number, expected {expected}",
                describe(self.value)
            );
            let advice = "Write the account's name. One that is made of digits needs quotes.";
            return Err(self.fault(problem, advice));
        }
        self.word(expected)
    }
}

/// A text as a fault quotes it: without the account and the query of a URL.
pub(super) fn quoted(text: &str) -> String {
    if text.len() > REPEATED || text.contains('\n') {
        format!("a text of {} characters", text.chars().count())
    } else if text.contains("://") || text.contains('@') {
        format!("{:?}", config::shown(text))
    } else {
        format!("{text:?}")
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
