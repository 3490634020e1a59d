//! From text to a [`Document`]: JSON or YAML, alone or under a `vmagent` key.

use serde_json::{Map, Value};

use super::read::document;
use super::{Document, DocumentFault};
use crate::metadata::tree::{Tree, json};
use crate::metadata::yaml;

/// The key under which others carry a document.
pub(in crate::metadata) const KEY: &str = "vmagent";

/// Whether a text belongs to this agent alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A file or a credential of our own: whatever it holds is meant for us.
    Own,
    /// Text that others use as well: it holds a document if it says so.
    Shared,
}

/// What a text turned out to hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A document.
    Document(Document),
    /// The place for one, with nothing in it.
    Empty,
    /// Nothing that is meant for this agent.
    Missing,
}

/// Reads the document that `text` holds, if it holds one.
///
/// # Errors
/// A text of our own that is no document, or a document with a wrong value in it.
pub fn parse(text: &[u8], carrier: Carrier) -> Result<Parsed, DocumentFault> {
    match tree(text) {
        Ok(tree) => find(&tree.0, carrier),
        // A script or a template of somebody else's.
        Err(DocumentFault::Syntax(_)) if carrier == Carrier::Shared && !mentions_us(text) => {
            Ok(Parsed::Missing)
        }
        Err(fault) => Err(fault),
    }
}

/// Reads JSON or YAML of any shape.
///
/// # Errors
/// Bytes that are not text, and text that is neither.
pub(in crate::metadata) fn tree(text: &[u8]) -> Result<Tree, DocumentFault> {
    let text = match std::str::from_utf8(text) {
        Ok(text) if !text.contains('\0') => text.trim_start_matches('\u{feff}'),
        _ => return Err(DocumentFault::NotText),
    };
    if !text.trim_start().starts_with(['{', '[']) {
        return yaml::compose(text).map_err(DocumentFault::Syntax);
    }
    // YAML's flow style looks the same; the message about JSON is the better one.
    match json(text) {
        Ok(tree) => Ok(tree),
        Err(error) => yaml::compose(text).map_err(|_| DocumentFault::Syntax(error.to_string())),
    }
}

/// Reads the document from a tree that has been parsed already.
///
/// # Errors
/// As for [`parse`].
pub(in crate::metadata) fn find(value: &Value, carrier: Carrier) -> Result<Parsed, DocumentFault> {
    match (value, carrier) {
        (Value::Null, Carrier::Own) => Ok(Parsed::Empty),
        (Value::Object(entries), _) => match entries.get(KEY) {
            // A carrier that is itself named after us may hold the key once more.
            Some(inner) => find(inner, Carrier::Own),
            None if entries.is_empty() && carrier == Carrier::Own => Ok(Parsed::Empty),
            None if carrier == Carrier::Own || is_bare(entries) => {
                document(value).map(Parsed::Document)
            }
            None => Ok(Parsed::Missing),
        },
        // Carried as text inside JSON.
        (Value::String(text), Carrier::Own) if text.contains('\n') => {
            parse(text.as_bytes(), Carrier::Own)
        }
        (_, Carrier::Own) => document(value).map(Parsed::Document),
        (_, Carrier::Shared) => Ok(Parsed::Missing),
    }
}

/// Whether a mapping without our key is a document all the same.
fn is_bare(entries: &Map<String, Value>) -> bool {
    let tunnel = entries.get("tunnel").and_then(Value::as_object);
    tunnel.is_some_and(|tunnel| {
        ["proxies", "private_key"]
            .iter()
            .any(|key| tunnel.contains_key(*key))
    })
}

fn mentions_us(text: &[u8]) -> bool {
    let names_us = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '"', '\'']);
        line.strip_prefix(KEY)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    String::from_utf8_lossy(text).lines().any(names_us)
}
