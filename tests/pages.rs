//! The commands and files in the documentation work as they are written.

mod hosts;
mod proxy;

use std::fs;

use harness::paths;

/// The one block of a page with this info string.
fn block(page: &str, info: &str) -> String {
    let text = fs::read_to_string(paths::top().join(page)).unwrap();
    let fence = format!("\n```{info}\n");
    let found: Vec<_> = text.split(fence.as_str()).skip(1).collect();
    assert_eq!(found.len(), 1, "{page} has {} blocks {info}", found.len());
    let end = found[0].find("```").unwrap();
    found[0][..end].to_owned()
}

/// The text with another in place of a part of it, which has to be there.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text:?}");
    text.replace(from, to)
}
