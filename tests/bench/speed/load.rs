//! Runs `bench-load` beside the peers.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use harness::failure::{Context, Failure, Result};
use harness::netns::Namespace;
use harness::paths;
use serde_json::Value;

use crate::interrupt;

/// The longest that one measure may take, in seconds.
const LIMIT: &str = "120";

/// The load's client, in the peers' network.
pub struct Load {
    namespace: Arc<Namespace>,
}

impl Load {
    /// For this network.
    pub fn new(namespace: &Arc<Namespace>) -> Self {
        Self {
            namespace: Arc::clone(namespace),
        }
    }

    /// The command of the program, which lies beside this one.
    ///
    /// # Errors
    ///
    /// If it was not built.
    pub fn program() -> Result<Command> {
        Ok(Command::new(paths::helper("bench-load")?))
    }

    /// Measures something in one go.
    ///
    /// # Errors
    ///
    /// If it fails: with what it said.
    pub fn measure(&self, endpoint: &str, what: &[&str]) -> Result<Value> {
        let mut steps = self.begin(endpoint, what)?;
        let result = steps.next()?;
        steps.end()?;
        Ok(result)
    }

    /// Begins to measure something step by step.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn begin(&self, endpoint: &str, what: &[&str]) -> Result<Steps> {
        interrupt::check()?;
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", LIMIT])
            .arg(Self::program()?.get_program())
            .args(["measure", endpoint])
            .args(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .namespace
            .enter(move || command.spawn())
            .during("starting bench-load")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("bench-load without pipes"));
        };
        Ok(Steps {
            child,
            input: Some(input),
            output: BufReader::new(output),
            what: format!("{endpoint}: {}", what.join(" ")),
        })
    }
}

/// A measure that goes on. It ends when this is dropped: its input has then ended.
pub struct Steps {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    what: String,
}

impl Steps {
    /// What it says next.
    ///
    /// # Errors
    ///
    /// If it fails: with what it said.
    pub fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err(self.failed());
        }
        serde_json::from_str(&line).during(line)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// If it is gone: with what it said.
    pub fn go(&mut self) -> Result<()> {
        let said = self.input.as_mut().map(|input| input.write_all(b"\n"));
        match said {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failed()),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// If it fails: with what it said.
    pub fn end(mut self) -> Result<()> {
        drop(self.input.take());
        if self.child.wait()?.success() {
            return Ok(());
        }
        Err(self.failed())
    }

    fn failed(&mut self) -> Failure {
        drop(self.input.take());
        let mut said = String::new();
        if let Some(errors) = &mut self.child.stderr {
            let _ = errors.read_to_string(&mut said);
        }
        let status = self.child.wait();
        let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        Failure::new(format!("bench-load {}: {status}: {said}", self.what))
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// How long a peer may take until it serves.
pub const START: Duration = Duration::from_secs(20);
