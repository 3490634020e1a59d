//! Waiting for a condition, with a deadline and without fixed sleeps.

use std::thread;
use std::time::{Duration, Instant};

use crate::early;
use crate::failure::{Failure, Result};

/// The longest pause between two questions, so that a wait takes little more than what it waits
/// for; and of those that cost much, as a program in an emulated guest.
const PAUSE: Duration = Duration::from_millis(100);
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// Asks `condition` until it has an answer: often at first, and then every 100 ms.
///
/// # Errors
///
/// After `limit`: names `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> Result<T> {
    ask(what, limit, PAUSE, condition)
}

fn ask<T>(
    what: &str,
    limit: Duration,
    longest: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = condition() {
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            let failure = format!("no {what} within {limit:?}");
            early::line(&failure);
            return Err(Failure::new(failure));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Repeats an attempt until it succeeds.
///
/// # Errors
///
/// After `limit`: names `what` was waited for, and the last attempt's error.
pub fn retry<T>(what: &str, limit: Duration, attempt: impl FnMut() -> Result<T>) -> Result<T> {
    repeat(what, limit, PAUSE, attempt)
}

/// As [`retry`], in the end every 500 ms: for what costs much to ask.
///
/// # Errors
///
/// As [`retry`].
pub fn retry_at_leisure<T>(
    what: &str,
    limit: Duration,
    attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    repeat(what, limit, LONG_PAUSE, attempt)
}

fn repeat<T>(
    what: &str,
    limit: Duration,
    longest: Duration,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    ask(what, limit, longest, || match attempt() {
        Ok(value) => Some(value),
        Err(error) => {
            last = Some(error);
            None
        }
    })
    .map_err(|timeout| match last {
        Some(error) => Failure::new(format!("{timeout}; the last attempt: {error}")),
        None => timeout,
    })
}
