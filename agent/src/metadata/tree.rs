//! A parsed tree that may hold a private key, wiped when it is dropped.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use zeroize::Zeroize;

/// Stands behind the name of a key that a mapping has had more than once, as a key of its own.
/// No text that is parsed has this character.
pub(super) const TWICE: char = '\0';

/// The end of a note, a key of its own, that a key stands in the mapping without a value. In YAML, an
/// empty variable of a template leaves such a key; `null` is written on purpose.
const BARE: &str = "\0\0";

/// Whether `key` has no value in the text, not even `null`.
pub(super) fn is_bare(entries: &Map<String, Value>, key: &str) -> bool {
    // A merge (`<<`) may add the note of another mapping to a key with a value.
    entries.get(key).is_some_and(Value::is_null) && entries.contains_key(&format!("{key}{BARE}"))
}

/// A tree of values whose texts are overwritten on drop.
pub(super) struct Tree(pub(super) Value);

impl Drop for Tree {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

// No deeper than the parsers let a tree nest.
fn wipe(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(entries) => entries.values_mut().for_each(wipe),
    }
}

/// Puts an entry into a mapping. The last one of a name counts, as for cloud-init; that there
/// were more is noted.
pub(super) fn insert(entries: &mut Map<String, Value>, key: String, value: Value) {
    let noted = format!("{key}{TWICE}");
    entries.remove(&format!("{key}{BARE}"));
    if let Some(mut before) = entries.insert(key, value) {
        wipe(&mut before);
        entries.insert(noted, Value::Null);
    }
}

/// Puts an entry without a value into a mapping.
pub(super) fn insert_bare(entries: &mut Map<String, Value>, key: String) {
    let note = format!("{key}{BARE}");
    insert(entries, key, Value::Null);
    entries.insert(note, Value::Null);
}

/// Notes each null of a mapping as a key without a value: cloud-init writes both as `null`.
pub(super) fn note_nulls(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Array(items) => items.iter_mut().for_each(note_nulls),
        Value::Object(entries) => {
            let nulls = entries.iter().filter(|(_, value)| value.is_null());
            let keys = nulls
                .map(|(key, _)| key)
                .filter(|key| !key.ends_with(TWICE));
            let notes: Vec<_> = keys.map(|key| format!("{key}{BARE}")).collect();
            entries.values_mut().for_each(note_nulls);
            entries.extend(notes.into_iter().map(|note| (note, Value::Null)));
        }
    }
}

/// Reads JSON.
pub(super) fn json(text: &str) -> Result<Tree, serde_json::Error> {
    serde_json::from_str(text).map(|Noted(value)| Tree(value))
}

/// A value in whose mappings it is noted what stands there more than once.
struct Noted(Value);

impl<'de> Deserialize<'de> for Noted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Noted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Noted, E> {
        Ok(Noted(Value::Null))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Noted, E> {
        Ok(Noted(Value::Bool(truth)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Noted, E> {
        Ok(Noted(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Noted, E> {
        Ok(Noted(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Noted, E> {
        let number = Number::from_f64(number).map_or(Value::Null, Value::Number);
        Ok(Noted(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Noted, E> {
        Ok(Noted(text.into()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Noted, E> {
        Ok(Noted(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Noted, A::Error> {
        let mut values = Vec::new();
        while let Some(Noted(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Noted(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Noted, A::Error> {
        let mut entries = Map::new();
        while let Some((key, Noted(value))) = pairs.next_entry()? {
            insert(&mut entries, key, value);
        }
        Ok(Noted(Value::Object(entries)))
    }
}
