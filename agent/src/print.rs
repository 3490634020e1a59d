//! The output of the commands. Every write may fail: a reader closes its pipe, a disk is full.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// The exit status when the standard output can't be written (`EX_IOERR`, sysexits.h).
pub const EX_IOERR: u8 = 74;

/// Writes `text` to the standard output. Returns `exit`, or [`EX_IOERR`] after an error.
pub fn answer(text: &str, exit: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match unless_closed(written) {
        Ok(()) => exit,
        Err(error) => failed(&error),
    }
}

/// A closed pipe is no error: its reader has read enough.
///
/// # Errors
/// All others.
pub fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| {
        let closed = error.kind() == ErrorKind::BrokenPipe;
        if closed { Ok(()) } else { Err(error) }
    })
}

/// Reports that the standard output can't be written.
pub fn failed(error: &io::Error) -> ExitCode {
    complain(format_args!(
        "vmagent: can't write to the standard output: {error}"
    ));
    ExitCode::from(EX_IOERR)
}

/// Writes a message to the standard error. If that fails, the exit status is the only report.
pub fn complain(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}
