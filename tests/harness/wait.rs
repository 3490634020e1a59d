//! Waiting for a condition, with a deadline and without fixed sleeps.

use std::thread;
use std::time::{Duration, Instant};

use crate::early;
use crate::failure::{Failure, Result};

/// Asks `condition` until it has an answer. Asks often at first and then at
/// most every 100 ms, so that a wait costs little more than what it waits for.
///
/// # Errors
///
/// After `limit`: names `what` was waited for.
pub fn until<T>(
    what: &str,
    limit: Duration,
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
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Repeats an attempt until it succeeds.
///
/// # Errors
///
/// After `limit`: names `what` was waited for, and the last attempt's error.
pub fn retry<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    until(what, limit, || match attempt() {
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
