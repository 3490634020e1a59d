//! QEMU's control socket.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{Context, Failure, Result};
use crate::limits::PROGRAM;

/// A connection to QEMU's control socket.
pub struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    partial: String,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects and leaves the negotiation behind.
    ///
    /// # Errors
    ///
    /// If nobody listens there yet, or it is no QEMU.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut qmp = Self {
            stream,
            reader,
            partial: String::new(),
            events: VecDeque::new(),
        };
        qmp.read(Instant::now() + PROGRAM)?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer.
    ///
    /// # Errors
    ///
    /// QEMU's refusal in its own words, or no answer within 30 s.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        writeln!(
            self.stream,
            "{}",
            json!({ "execute": command, "arguments": arguments })
        )?;
        let deadline = Instant::now() + PROGRAM;
        loop {
            let mut message = self.read(deadline).during(command)?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if let Some(error) = message.get("error") {
                return Err(Failure::new(format!("QEMU refuses {command}: {error}")));
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    /// Waits for an event that has not been asked for before.
    ///
    /// # Errors
    ///
    /// If it does not come within `limit`.
    pub fn event(&mut self, name: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == name {
                    return Ok(event);
                }
            }
            let message = self
                .read(deadline)
                .during(format!("waiting for QEMU's event {name}"))?;
            self.events.push_back(message);
        }
    }

    /// Forgets the events up to now.
    pub fn forget_events(&mut self) {
        // A command's answer comes after all events before it.
        let _ = self.execute("query-status", json!({}));
        self.events.clear();
    }

    fn read(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new("QEMU did not answer in time"));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.reader.read_line(&mut self.partial) {
                Ok(0) => return Err(Failure::new("QEMU is gone")),
                Ok(_) if self.partial.ends_with('\n') => {
                    let message = serde_json::from_str(&self.partial)?;
                    self.partial.clear();
                    return Ok(message);
                }
                // A part of a line stays in `partial` until the rest comes.
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
