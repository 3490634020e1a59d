//! The commands and files in the documentation work as written.

mod hosts;
mod proxy;

use std::fs;

use harness::paths;

/// The one code block of a page that has this info string.
fn block(page: &str, info: &str) -> String {
    let text = fs::read_to_string(paths::top().join(page)).unwrap();
    let fence = format!("\n```{info}\n");
    let found: Vec<_> = text.split(fence.as_str()).skip(1).collect();
    assert_eq!(found.len(), 1, "{page} has {} blocks {info}", found.len());
    let end = found[0].find("```").unwrap();
    found[0][..end].to_owned()
}

/// The text with `to` in place of `from`, which has to be in it.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text:?}");
    text.replace(from, to)
}
