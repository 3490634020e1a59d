//! A parsed tree that may hold a private key, wiped when it is dropped.

use serde_json::Value;
use zeroize::Zeroize;

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
