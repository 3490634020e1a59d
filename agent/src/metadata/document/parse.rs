//! From text to a [`Document`]: JSON or YAML, alone or under a `vmagent` key.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::cursor::{BEGIN, quoted};
use super::fields::{is_near, shown};
use super::read::document;
use super::{Document, DocumentFault, overlap};
use crate::metadata::tree::{TWICE, Tree, is_bare, json};
use crate::metadata::yaml::{self, Mistake};

/// The key under which others carry a document.
pub(in crate::metadata) const KEY: &str = "vmagent";

/// The key of the tunnel in a document.
const TUNNEL: &str = "tunnel";

/// The keys of a tunnel that other programs hardly have both of.
const OWN: [&str; 2] = ["proxies", "private_key"];

/// How many strings may be nested around a document.
const TEXTS: usize = 4;

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
    /// The place for one, with `null` written there.
    Null,
    /// Nothing that is meant for this agent.
    Missing,
}

/// Reads the document that `text` holds, if it holds one.
///
/// # Errors
/// A text of our own that is no document, or a document with a wrong value in it.
pub fn parse(text: &[u8], carrier: Carrier) -> Result<Parsed, DocumentFault> {
    let text = decoded(text)?;
    parse_at(&text, carrier, 0)
}

fn parse_at(text: &str, carrier: Carrier, depth: usize) -> Result<Parsed, DocumentFault> {
    match composed(text) {
        Ok(tree) if tree.0.is_null() && carrier == Carrier::Own && !says_null(text) => {
            Ok(Parsed::Empty)
        }
        Ok(tree) => find_at(&tree.0, carrier, depth),
        // A script or a template of somebody else's.
        Err(DocumentFault::Syntax { .. }) if carrier == Carrier::Shared && !mentions_us(text) => {
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
    composed(&decoded(text)?)
}

/// The text in UTF-8, or in UTF-16 with a byte order mark, as PowerShell writes it.
fn decoded(bytes: &[u8]) -> Result<Zeroizing<String>, DocumentFault> {
    let units = match bytes {
        [0xff, 0xfe, rest @ ..] => Some((rest, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xfe, 0xff, rest @ ..] => Some((rest, u16::from_be_bytes as fn([u8; 2]) -> u16)),
        _ => None,
    };
    let text = match units {
        Some((rest, unit)) if rest.len().is_multiple_of(2) => {
            let units = rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
            // The largest size of the text in UTF-8, so that no reallocation leaves a copy of the
            // key behind.
            let mut text = Zeroizing::new(String::with_capacity(rest.len() / 2 * 3));
            for c in char::decode_utf16(units) {
                text.push(c.map_err(|_| DocumentFault::NotText)?);
            }
            text
        }
        Some(_) => return Err(DocumentFault::NotText),
        None => {
            let text = std::str::from_utf8(bytes).map_err(|_| DocumentFault::NotText)?;
            Zeroizing::new(text.trim_start_matches('\u{feff}').to_owned())
        }
    };
    if text.contains('\0') {
        return Err(DocumentFault::NotText);
    }
    Ok(text)
}

fn composed(text: &str) -> Result<Tree, DocumentFault> {
    let yaml = |text| {
        yaml::compose(text).map_err(|mistake| match mistake {
            Mistake::Second(line) => DocumentFault::second(line),
            Mistake::Syntax { problem, advice } => DocumentFault::syntax(&problem, advice),
        })
    };
    if !text.trim_start().starts_with(['{', '[']) {
        return yaml(text);
    }
    // YAML's flow style looks the same; the message about JSON is the better one.
    match json(text) {
        Ok(tree) => Ok(tree),
        Err(error) => yaml(text).map_err(|_| DocumentFault::syntax(&error.to_string(), None)),
    }
}

/// Reads the document from a tree that has been parsed already.
///
/// # Errors
/// As for [`parse`].
pub(in crate::metadata) fn find(value: &Value, carrier: Carrier) -> Result<Parsed, DocumentFault> {
    find_at(value, carrier, 0)
}

fn find_at(value: &Value, carrier: Carrier, depth: usize) -> Result<Parsed, DocumentFault> {
    match (value, carrier) {
        (Value::Null, Carrier::Own) => Ok(Parsed::Null),
        (Value::Object(entries), _) => match entries.get(KEY) {
            // A carrier that is itself named after us may hold the key once more.
            Some(inner) => {
                let parsed = match is_bare(entries, KEY) {
                    true => Ok(Parsed::Empty),
                    false => find_at(inner, Carrier::Own, depth),
                };
                not_beside(entries, carrier, parsed.map_err(inside)?)
            }
            None if entries.is_empty() && carrier == Carrier::Own => Ok(Parsed::Empty),
            None => {
                if let Some(key) = misspelt(entries) {
                    let problem = format!("unknown key, and {KEY} is missing");
                    let advice = format!("Rename {key} to {KEY}.");
                    return Err(DocumentFault::value(&key, problem, &advice));
                }
                if carrier == Carrier::Own || is_document(entries) {
                    return checked(value);
                }
                Ok(Parsed::Missing)
            }
        },
        (Value::String(text), Carrier::Own) => as_text(text, carrier, depth),
        (Value::String(text), Carrier::Shared) => match as_text(text, carrier, depth) {
            // Prose of another service, with a line that begins like our key.
            Err(_) if !is_meant(text) => Ok(Parsed::Missing),
            parsed => parsed,
        },
        (_, Carrier::Own) => checked(value),
        (_, Carrier::Shared) => Ok(Parsed::Missing),
    }
}

/// Reads a document that is carried as a string inside JSON or YAML, as Terraform's `jsonencode`
/// and OpenStack's DynamicJSON write it. The string holds JSON or YAML, or another such string.
fn as_text(text: &str, carrier: Carrier, depth: usize) -> Result<Parsed, DocumentFault> {
    if depth < TEXTS && !is_word(text) {
        return parse_at(text, carrier, depth + 1);
    }
    match carrier {
        Carrier::Own => {
            let problem = format!(
                "found {}, expected a mapping of keys to values",
                quoted(text)
            );
            Err(DocumentFault::value("", problem, BEGIN))
        }
        Carrier::Shared => Ok(Parsed::Missing),
    }
}

/// Whether a text is a plain word, and so neither a mapping nor a string with one inside.
fn is_word(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains([':', '{', '\n'])
}

/// Adds our key to the fault of the text under it.
fn inside(mut fault: DocumentFault) -> DocumentFault {
    match &mut fault {
        DocumentFault::Syntax { place, .. } => *place = KEY,
        DocumentFault::Value { path, .. } if path.is_empty() => KEY.clone_into(path),
        DocumentFault::Value { .. } | DocumentFault::NotText => {}
    }
    fault
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
    let ours = carrier == Carrier::Own || is_document(entries) || has_both(entries);
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
    let document = |value: &Value| value.as_object().is_some_and(is_document);
    let mut found = entries.iter();
    let (key, _) = found.find(|(key, value)| is_near(key, KEY) && document(value))?;
    Some(shown(key))
}

/// Whether a mapping without our key is a document all the same, be it a wrong one.
fn is_document(entries: &Map<String, Value>) -> bool {
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

fn mentions_us(text: &str) -> bool {
    text.lines().any(|line| value_on(line).is_some())
}

/// Whether the fault of a text that others use as well is about a document: the value at our key
/// begins a mapping or a text, and is not a word.
fn is_meant(text: &str) -> bool {
    let begins = |line: &str| {
        value_on(line).is_some_and(|value| {
            value.is_empty() || value.starts_with(['{', '|', '>', '"', '\'', '&', '!', '#'])
        })
    };
    match composed(text).as_ref().map(|tree| &tree.0) {
        Ok(Value::Object(entries)) => match entries.get(KEY) {
            Some(Value::String(text)) => !is_word(text),
            Some(value) => value.is_object() || value.is_null(),
            None => true,
        },
        Ok(value) => value.is_string(),
        Err(_) => text.lines().any(begins),
    }
}

/// The text behind our key, if `line` begins with that key.
fn value_on(line: &str) -> Option<&str> {
    let line = line.trim_start_matches([' ', '{', '"', '\'']);
    let rest = line.strip_prefix(KEY)?;
    let value = rest
        .trim_start_matches(['"', '\'', ' '])
        .strip_prefix(':')?;
    Some(value.trim())
}

/// Whether a text without any other value has `null` in it, and not only comments.
fn says_null(text: &str) -> bool {
    let code = text.lines().filter_map(|line| line.split('#').next());
    let mut words = code.flat_map(str::split_whitespace);
    words.any(|word| matches!(word, "null" | "Null" | "NULL" | "~"))
}
