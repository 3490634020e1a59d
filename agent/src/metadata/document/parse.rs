//! From text to a [`Document`]: JSON or YAML, alone or under a `vmagent` key.

use serde_json::{Map, Value};

use super::cursor::{is_near, shown};
use super::read::document;
use super::{Document, DocumentFault, overlap};
use crate::metadata::tree::{TWICE, Tree, json};
use crate::metadata::yaml;

/// The key under which others carry a document.
pub(in crate::metadata) const KEY: &str = "vmagent";

/// The key of the tunnel in a document.
const TUNNEL: &str = "tunnel";

/// The keys of a tunnel that other programs hardly have both of.
const OWN: [&str; 2] = ["proxies", "private_key"];

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
            Some(inner) => not_beside(entries, carrier, find(inner, Carrier::Own)?),
            None if entries.is_empty() && carrier == Carrier::Own => Ok(Parsed::Empty),
            None => {
                if let Some(key) = misspelt(entries) {
                    let problem = format!("unknown key, and {KEY} is missing");
                    let advice = format!("Rename {key} to {KEY}.");
                    return Err(DocumentFault::value(&key, problem, &advice));
                }
                if carrier == Carrier::Own || is_bare(entries) {
                    return checked(value);
                }
                Ok(Parsed::Missing)
            }
        },
        // Carried as text inside JSON.
        (Value::String(text), Carrier::Own) if text.contains('\n') => {
            parse(text.as_bytes(), Carrier::Own)
        }
        (_, Carrier::Own) => checked(value),
        (_, Carrier::Shared) => Ok(Parsed::Missing),
    }
}

fn checked(value: &Value) -> Result<Parsed, DocumentFault> {
    let document = document(value)?;
    if let Some(tunnel) = &document.tunnel {
        overlap::refuse(tunnel)?;
    }
    Ok(Parsed::Document(document))
}

/// Refuses a document without a tunnel where a tunnel stands beside our key, or another document
/// before it: it has lost its indentation, and would otherwise count as "no tunnel is wanted".
///
/// In a text that others use as well, a key of that name may be theirs: only a whole tunnel is ours.
fn not_beside(
    entries: &Map<String, Value>,
    carrier: Carrier,
    parsed: Parsed,
) -> Result<Parsed, DocumentFault> {
    if matches!(&parsed, Parsed::Document(document) if document.tunnel.is_some()) {
        return Ok(parsed);
    }
    let ours = carrier == Carrier::Own || is_bare(entries) || has_both(entries);
    let mut keys = [TUNNEL, "proxies", "private_key"].into_iter();
    if let Some(key) = keys.find(|key| ours && entries.contains_key(*key)) {
        let problem = format!("found beside {KEY}, which asks for no tunnel");
        let advice = format!("Indent it, so that it stands inside {KEY}.");
        return Err(DocumentFault::value(key, problem, &advice));
    }
    if entries.contains_key(&format!("{KEY}{TWICE}")) {
        let problem = "written more than once, and the last one asks for no tunnel";
        return Err(DocumentFault::value(KEY, problem, "Keep one of them."));
    }
    Ok(parsed)
}

/// A key that is almost ours, with a document in it.
fn misspelt(entries: &Map<String, Value>) -> Option<String> {
    let document = |value: &Value| value.as_object().is_some_and(is_bare);
    let mut found = entries.iter();
    let (key, _) = found.find(|(key, value)| is_near(key, KEY) && document(value))?;
    Some(shown(key))
}

/// Whether a mapping without our key is a document all the same, be it a wrong one.
fn is_bare(entries: &Map<String, Value>) -> bool {
    let either = |tunnel: &Map<String, Value>| OWN.iter().any(|key| tunnel.contains_key(*key));
    // Other programs may have a key of a similar name; only a whole tunnel below it is ours.
    let tunnel = |(key, value): (&String, &Value)| match value.as_object() {
        Some(tunnel) if key == TUNNEL => either(tunnel) || has_both(entries),
        Some(tunnel) => is_near(key, TUNNEL) && has_both(tunnel),
        None => key == TUNNEL && has_both(entries),
    };
    entries.iter().any(tunnel)
}

fn has_both(entries: &Map<String, Value>) -> bool {
    OWN.iter().all(|key| entries.contains_key(*key))
}

fn mentions_us(text: &[u8]) -> bool {
    let names_us = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '"', '\'']);
        line.strip_prefix(KEY)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    String::from_utf8_lossy(text).lines().any(names_us)
}
