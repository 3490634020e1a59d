//! Waiting that ends when the program is to end.

use std::thread;
use std::time::{Duration, Instant};

use harness::failure::Result;

use crate::interrupt::check;

/// How soon a wait hears of it.
const STEP: Duration = Duration::from_millis(50);

/// Lets time go by.
///
/// # Errors
///
/// If the program is to end.
pub fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}
