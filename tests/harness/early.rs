//! Says why a test fails when it fails. The runner does so when all have ended, after what may be
//! megabytes of journals.

use std::io::{self, Write};
use std::sync::Once;
use std::{panic, thread};

/// From now on every panic has its line.
pub(crate) fn panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            line(&panic.to_string());
            before(panic);
        }));
    });
}

/// Prints the beginning of a text past the runner, which keeps what a test prints.
pub(crate) fn line(text: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a thread");
    let short: String = text.replace('\n', " ").chars().take(400).collect();
    // Whether it can be printed or not, the test goes on.
    let _ = writeln!(io::stderr(), "{test}: {short}");
}
