//! An agent's status as it changes, and the time that a recovery takes.

use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::Agent;
use crate::failure::{Context, Failure, Result};
use crate::limits::{PROGRAM, SOON};
use crate::stopwatch::Stopwatch;

/// How much longer than allowed a recovery is waited for, so that its failure says how long it took.
const PATIENCE: Duration = SOON;

/// The status from now on, each change heard once.
pub struct Watch<'a> {
    agent: &'a Agent,
    reader: BufReader<UnixStream>,
    last: Value,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(agent: &'a Agent, socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).during(agent.log())?;
        Ok(Self {
            agent,
            reader: BufReader::new(stream),
            last: Value::Null,
        })
    }

    /// Waits until `condition` holds for a status that was not heard before, and returns it. The
    /// first that is heard is the one that was current when the watch began.
    ///
    /// # Errors
    ///
    /// After `limit`: with the last status and the agent's log.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // If this process was late itself, it reads what the agent has sent in time.
            let left = left.max(Duration::from_millis(1));
            self.reader.get_ref().set_read_timeout(Some(left))?;
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => {
                    let log = self.agent.log();
                    return Err(Failure::new(format!("the agent ended:\n{log}")));
                }
                Ok(_) => {
                    self.last = serde_json::from_str(&line).during(&line)?;
                    if condition(&self.last) {
                        return Ok(self.last.clone());
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(self.late(what, limit));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn late(&self, what: &str, limit: Duration) -> Failure {
        Failure::new(format!(
            "no {what} within {limit:?}; {}: {:#}\n{}",
            in_short(&self.last),
            self.last,
            self.agent.log()
        ))
    }
}

/// Each part's state, and its fault if it has one: what a failure begins with.
pub fn in_short(status: &Value) -> String {
    let part = |(name, part): (&String, &Value)| {
        let state = part["state"].as_str()?;
        let fault = &part["fault"];
        Some(match (fault["code"].as_str(), fault["message"].as_str()) {
            (Some(code), Some(message)) => format!("{name} {state} ({code}: {message})"),
            _ => format!("{name} {state}"),
        })
    };
    let parts: Vec<_> = status
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(part)
        .collect();
    parts.join(", ")
}

/// The tunnel is up, and nothing speaks against it.
fn works(status: &Value) -> bool {
    status["tunnel"]["state"] == "up" && status["tunnel"]["fault"].is_null()
}

/// A fault, its cure, and the time until the tunnel is up again. Prints all three.
pub struct Outage<'a> {
    watch: Watch<'a>,
    fault: String,
    began: Instant,
    down: bool,
}

impl<'a> Outage<'a> {
    /// Begins right before the `fault` is made.
    ///
    /// # Errors
    ///
    /// If the agent is gone.
    pub fn begin(agent: &'a Agent, fault: impl Into<String>) -> Result<Self> {
        let mut watch = agent.watch()?;
        let now = watch.until("any status", PROGRAM, |_| true)?;
        Ok(Self {
            watch,
            fault: fault.into(),
            began: Instant::now(),
            down: !works(&now),
        })
    }

    /// Waits until the tunnel shows the fault by one of these codes, and returns that status.
    ///
    /// # Errors
    ///
    /// If it does not by `limit` after the fault.
    pub fn shows(&mut self, limit: Duration, codes: &[&str]) -> Result<Value> {
        let left = limit.saturating_sub(self.began.elapsed());
        let status = self
            .watch
            .until(&codes.join(" or "), left, |status| {
                let tunnel = &status["tunnel"];
                let code = tunnel["fault"]["code"].as_str();
                code.is_some_and(|code| codes.contains(&code))
            })
            .map_err(|failure| failure.during(&self.fault))?;
        self.down = true;
        let noticed = self.began.elapsed().as_secs_f64();
        println!("{} | shown after {noticed:.2} s", self.fault);
        Ok(status)
    }

    /// How long ago the fault was made.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the tunnel is up without a fault, from now, when it was cured. A tunnel that was
    /// not seen otherwise must be so first.
    ///
    /// # Errors
    ///
    /// If it takes longer than `limit`.
    pub fn cured(self, cure: &str, limit: Duration) -> Result<Value> {
        let now = self.watch.agent.stopwatch();
        self.up_since(now, cure, limit)
    }

    /// As [`Outage::cured`], where `since` was started at the cure, or at the fault.
    ///
    /// # Errors
    ///
    /// If it takes longer than `limit`.
    pub fn up_since(mut self, since: Stopwatch, cure: &str, limit: Duration) -> Result<Value> {
        let row = format!("{} | {cure}", self.fault);
        let patience = (limit + PATIENCE).saturating_sub(since.elapsed());
        let mut until = |what: &str, up: bool| {
            self.watch
                .until(what, patience, |status| works(status) == up)
                .map_err(|failure| failure.during(&row))
        };
        if !self.down {
            until("end of the tunnel", false)?;
        }
        let status = until("tunnel that is up", true)?;
        let took = since.elapsed();
        println!(
            "{row} | up in {:.2} s of {:.0}",
            took.as_secs_f64(),
            limit.as_secs_f64()
        );
        if took > limit {
            let log = self.watch.agent.log();
            return Err(Failure::new(format!(
                "{row}: up after {took:?}, not {limit:?}; {}: {status:#}\n{log}",
                in_short(&status)
            )));
        }
        Ok(status)
    }
}
