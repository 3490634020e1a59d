//! What has to hold for every input, whichever target it goes to.

use std::fmt::{Debug, Display};

/// The longest run of a key's characters that a complaint may have. A line of a key has 64 or
/// more; 40 characters of a text are repeated at most, and some words of ours may follow.
const RUN: usize = 60;

/// Checks that a complaint repeats nothing that could be a secret.
///
/// # Panics
///
/// If it does.
pub fn discreet(fault: &(impl Display + Debug)) {
    for said in [fault.to_string(), format!("{fault:?}")] {
        let of_a_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let longest = said.split(|c| !of_a_key(c)).map(str::len).max();
        assert!(longest.unwrap_or_default() < RUN, "{said}");
    }
}
