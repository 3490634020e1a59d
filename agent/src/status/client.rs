//! `vmagent status`: asks the agent's socket, and prints the answer.

mod agent;
mod answer;
mod goal;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent::{Agent, silent};
use answer::Answer;
use goal::Goal;

use crate::cli::{self, Alias};
use crate::config::Config;
use crate::print;

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
/// answers, 4 not allowed to ask, 74 the standard output can't be written. A reader that closes the
/// pipe changes nothing.
#[must_use]
pub fn run(options: &cli::Status) -> ExitCode {
    let socket = socket(options);
    let terminal = io::stdout().is_terminal();
    let variable = |name: &str| std::env::var(name).ok();
    let look = Look {
        form: form(options),
        watch: options.watch,
        redraws: terminal && obeys_escapes(variable),
        colour: terminal && wants_colour(variable),
    };
    let goal = Goal {
        way: options.wait_for,
        wait: options.wait.is_some() || options.wait_for.is_some(),
        limit: options.wait.map(Duration::from_secs),
    };
    let mut out = io::stdout().lock();
    match follow(&socket, goal, &look, &mut out, &mut io::stderr()) {
        Ok(exit) => exit.into(),
        Err(Failure::Output(error)) => print::failed(&error),
        Err(Failure::Agent { message, exit }) => {
            print::complain(format_args!("vmagent: {message}"));
            exit.into()
        }
    }
}

fn form(options: &cli::Status) -> Form {
    match &options.ssh_config {
        Some(alias) => Form::SshConfig(alias.clone()),
        None if options.known_hosts => Form::KnownHosts(options.alias.clone()),
        None if options.json => Form::Json,
        None => Form::Words,
    }
}

/// Where the agent answers: as told, as configured, or where it always does.
fn socket(options: &cli::Status) -> PathBuf {
    options.socket.clone().unwrap_or_else(|| {
        // A fault of the configuration is left to the agent's status.
        Config::status_socket(None)
    })
}

/// Whether the terminal supports escape sequences.
fn obeys_escapes(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Colour is for terminals that can, and for people who did not say no (no-color.org).
fn wants_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && obeys_escapes(variable)
}

/// How it is printed.
#[derive(Debug, Clone)]
struct Look {
    form: Form,
    watch: bool,
    /// Each status replaces the one before on the terminal.
    redraws: bool,
    colour: bool,
}

/// The forms in which the status is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Words,
    Json,
    KnownHosts(Option<Alias>),
    SshConfig(Option<Alias>),
}

/// Why nothing could be printed.
#[derive(Debug)]
enum Failure {
    /// The agent does not answer.
    Agent { message: String, exit: Exit },
    /// The output can't be written.
    Output(io::Error),
}

/// What is asked for, and what has been heard.
struct Conversation<'a> {
    look: &'a Look,
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
    look: &Look,
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
        let (message, exit) = match result {
            Ok(()) => break,
            Err(Failure::Agent { message, exit }) => (message, exit),
            // `vmagent status --watch | head`: the last status still gives the exit status.
            Err(Failure::Output(error)) => {
                print::unless_closed(Err(error)).map_err(Failure::Output)?;
                break;
            }
        };
        // Whoever waits, or has watched one go, waits for the next one as well.
        let again = goal.wait || (look.watch && conversation.last.is_some());
        // Time does not give this user a right.
        if exit == Exit::NotAllowed || !again {
            return Err(Failure::Agent { message, exit });
        }
        if conversation.is_due() {
            match conversation.last {
                Some(_) => break,
                None => return Err(Failure::Agent { message, exit }),
            }
        }
        if goal.wait && !noted {
            let _ = writeln!(notes, "vmagent: waiting: {message}");
            noted = true;
        }
        std::thread::sleep(RETRY);
    }
    let Some(answer) = conversation.last else {
        return Err(silent(socket));
    };
    if !look.watch {
        print::unless_closed(answer.print(look, out)).map_err(Failure::Output)?;
    }
    Ok(answer.exit(goal))
}

impl Conversation<'_> {
    /// Listens to the agent until there is no more to wait for.
    fn hold(&mut self, mut agent: Agent<'_>, out: &mut impl Write) -> Result<(), Failure> {
        let watch = self.look.watch;
        let redraws = watch && self.look.redraws && self.look.form == Form::Words;
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
                    answer.print(self.look, out).map_err(Failure::Output)?;
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
