//! A program that runs beside a test and ends with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use crate::failure::{Context, Failure, Result};
use crate::wait;

/// A running program. Killed and reaped on drop.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn new(name: &str, child: Child, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails if it has ended, with what it printed.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!(
                "{} ended ({status}):\n{}",
                self.name,
                self.log()
            ))),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until(&format!("end of {}", self.name), limit, || {
            self.child.try_wait().ok().flatten()
        })
    }

    /// Kills it, unasked.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same program with the same arguments and environment.
pub(crate) fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(key, value),
            None => copy.env_remove(key),
        };
    }
    copy
}

/// Runs a short program of the machine's own, outside any namespace.
///
/// # Errors
///
/// If it can't be started or fails: with all that it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().during(format!("starting {command:?}"))?;
    succeeded(command, &output)
}

/// The standard output of a command that succeeded.
///
/// # Errors
///
/// If it did not: with its exit status and all that it said.
pub fn succeeded(command: &Command, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "{command:?}: {}\n{stdout}{stderr}",
        output.status
    )))
}
