//! `vmagent status`: asks the agent's socket, and prints the answer.

mod agent;
mod goal;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use agent::{Agent, silent};
use goal::Goal;

use super::model::Status;
use super::render::{printable, render};
use crate::cli;
use crate::config::Config;

/// Between two attempts to reach an agent that is waited for.
const RETRY: Duration = Duration::from_millis(250);
/// How often a terminal is drawn anew, to keep "3 s ago" true.
const REDRAW: Duration = Duration::from_secs(1);
/// What `vmagent status` ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    /// All is well.
    Ok = 0,
    /// Degraded or starting.
    NotOk = 1,
    /// No agent answers.
    NotRunning = 3,
    /// The socket is not for this user.
    NotAllowed = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs `vmagent status` on the standard output; what went wrong is said on the standard error.
///
/// Ends with 0 when all is well (with `--wait-for`: when that way in is up), 1 otherwise, 3 no agent
/// answers, 4 not allowed to ask.
#[must_use]
pub fn run(options: &cli::Status) -> ExitCode {
    let socket = socket(options);
    let terminal = io::stdout().is_terminal();
    let look = Look {
        json: options.json,
        watch: options.watch,
        known_hosts: options.known_hosts,
        terminal,
        colour: terminal && wants_colour(|name| std::env::var(name).ok()),
    };
    let goal = Goal {
        way: options.wait_for,
        wait: options.wait.is_some() || options.wait_for.is_some(),
        limit: options.wait.map(Duration::from_secs),
    };
    let mut out = io::stdout().lock();
    match follow(&socket, goal, look, &mut out, &mut io::stderr()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Nobody reads us any more, as in `vmagent status --watch | head`: nothing to say.
            if error.output.is_none() {
                let _ = writeln!(io::stderr(), "vmagent: {error}");
            }
            error.exit.into()
        }
    }
}

/// Where the agent answers: as told, as configured, or where it always does.
fn socket(options: &cli::Status) -> PathBuf {
    options.socket.clone().unwrap_or_else(|| {
        // A configuration that is wrong or not for this user is not this command's business.
        Config::load(None).unwrap_or_default().status_socket
    })
}

/// Colour is for terminals that can, and for people who did not say no (no-color.org).
fn wants_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// How it is printed.
#[derive(Debug, Clone, Copy)]
struct Look {
    json: bool,
    watch: bool,
    known_hosts: bool,
    terminal: bool,
    colour: bool,
}

/// Why there is nothing to print.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
    /// Set where it is the output that failed.
    output: Option<io::Error>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            exit: Exit::NotOk,
            output: Some(error),
        }
    }
}

/// One answer of the agent.
struct Answer {
    /// As it came, with its line end.
    line: Vec<u8>,
    /// It may be of a newer agent, and have more than we know of.
    json: Value,
}

impl Answer {
    fn exit(&self, goal: Goal) -> Exit {
        if goal.is_met(&self.json) {
            Exit::Ok
        } else {
            Exit::NotOk
        }
    }

    fn print(&self, look: Look, out: &mut impl Write) -> io::Result<()> {
        if look.known_hosts {
            out.write_all(self.known_hosts().as_bytes())?;
            return out.flush();
        }
        match (look.json, look.watch) {
            (true, true) => out.write_all(&self.line)?,
            (true, false) => writeln!(out, "{}", self.pretty()?)?,
            (false, _) => {
                if look.watch && look.terminal {
                    // Home, and clear what is below.
                    out.write_all(b"\x1b[H\x1b[2J")?;
                }
                out.write_all(self.words(look.colour).as_bytes())?;
                if look.watch && !look.terminal {
                    out.write_all(b"\n")?;
                }
            }
        }
        out.flush()
    }

    /// In the order of the contract, unless that would lose what we do not know.
    fn pretty(&self) -> serde_json::Result<String> {
        let known = serde_json::from_value::<Status>(self.json.clone()).ok();
        let lossless =
            |status: &Status| serde_json::to_value(status).is_ok_and(|again| again == self.json);
        match known.filter(lossless) {
            Some(status) => serde_json::to_string_pretty(&status),
            None => serde_json::to_string_pretty(&self.json),
        }
    }

    /// Nothing where no way in works, or sshd has no keys yet.
    fn known_hosts(&self) -> String {
        let ways = self.json.get("ways_in").and_then(Value::as_array);
        let lines = ways.into_iter().flatten().filter_map(|way| {
            let lines = way.get("known_hosts")?.as_array()?;
            Some(lines.iter().filter_map(Value::as_str))
        });
        let line = |line| format!("{}\n", printable(line));
        lines.flatten().map(line).collect()
    }

    fn words(&self, colour: bool) -> String {
        match serde_json::from_value::<Status>(self.json.clone()) {
            Ok(status) => render(&status, SystemTime::now(), colour),
            Err(_) => {
                let word = |name| self.json.get(name).and_then(Value::as_str).unwrap_or("?");
                format!(
                    "{}: the agent is of another version, {}; --json prints all it says\n",
                    printable(word("health")),
                    printable(word("version")),
                )
            }
        }
    }
}

/// What is asked for, and what has been heard.
struct Conversation {
    look: Look,
    goal: Goal,
    deadline: Option<Instant>,
    last: Option<Answer>,
}

/// Prints what was asked for, and says how it came out.
///
/// While it waits, it writes the first failure to `notes`.
fn follow(
    socket: &Path,
    goal: Goal,
    look: Look,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<Exit, Failure> {
    let mut noted = false;
    let mut conversation = Conversation {
        look,
        goal,
        deadline: goal
            .limit
            .and_then(|limit| Instant::now().checked_add(limit)),
        last: None,
    };
    loop {
        let result = Agent::connect(socket).and_then(|agent| conversation.hold(agent, out));
        let Err(failure) = result else { break };
        // Whoever waits, or has watched one go, waits for the next one as well.
        let again = goal.wait || (look.watch && conversation.last.is_some());
        // Time does not give this user a right.
        let is_final = failure.output.is_some() || failure.exit == Exit::NotAllowed;
        if is_final || !again {
            return Err(failure);
        }
        if conversation.is_due() {
            match conversation.last {
                Some(_) => break,
                None => return Err(failure),
            }
        }
        if goal.wait && !noted {
            let _ = writeln!(notes, "vmagent: waiting: {failure}");
            noted = true;
        }
        std::thread::sleep(RETRY);
    }
    let Some(answer) = conversation.last else {
        return Err(silent(socket));
    };
    if !look.watch {
        answer.print(look, out)?;
    }
    Ok(answer.exit(goal))
}

impl Conversation {
    /// Listens to the agent until there is no more to wait for.
    fn hold(&mut self, mut agent: Agent<'_>, out: &mut impl Write) -> Result<(), Failure> {
        let Look { json, watch, .. } = self.look;
        let redraws = watch && self.look.terminal && !json;
        loop {
            let left = self
                .deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let limit = left.into_iter().chain(redraws.then_some(REDRAW)).min();
            let news = agent.next(limit)?;
            let shown = watch && (news.is_some() || redraws);
            if let Some(answer) = news {
                self.last = Some(answer);
            }
            if let Some(answer) = &self.last {
                if shown {
                    answer.print(self.look, out)?;
                }
                let once = !self.goal.wait && !watch;
                if once || (self.goal.wait && self.goal.is_met(&answer.json)) {
                    return Ok(());
                }
            }
            if self.is_due() {
                return Ok(());
            }
        }
    }

    fn is_due(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

#[cfg(test)]
mod tests;
