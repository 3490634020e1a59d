//! An end by the user's wish that leaves nothing behind: who waits is told, and cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::failure::{Failure, Result};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes note of the first signal, and lets the second end the program. For the start of it: the
/// threads that are there already would die of the signal.
///
/// # Errors
///
/// If the kernel refuses.
pub fn watch() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block()?;
    thread::spawn(move || {
        let _ = signals.wait();
        INTERRUPTED.store(true, Ordering::Relaxed);
        eprintln!("interrupted, cleaning up");
        let _ = signals.wait();
        std::process::exit(130);
    });
    Ok(())
}

/// Fails once the program is to end.
///
/// # Errors
///
/// Then.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(Failure::new("interrupted"));
    }
    Ok(())
}
