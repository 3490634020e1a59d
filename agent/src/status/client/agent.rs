//! The conversation with the agent: lines of JSON over its socket.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Answer, Exit, Failure};

/// How long the agent may take for its first line.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest line that is taken, in bytes; a status has a few thousand.
const LINE: u64 = 1 << 20;

/// A connection to the agent.
pub(super) struct Agent<'a> {
    path: &'a Path,
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    has_answered: bool,
}

impl<'a> Agent<'a> {
    pub(super) fn connect(path: &'a Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let (exit, what, advice) = if denied {
                (Exit::NotAllowed, "not allowed to ask", "")
            } else {
                let advice = "; systemctl status vmagent may say why";
                (Exit::NotRunning, "the agent is not running", advice)
            };
            failure(exit, format!("{what}: {}: {error}{advice}", path.display()))
        })?;
        Ok(Self {
            path,
            reader: BufReader::new(stream),
            line: Vec::new(),
            has_answered: false,
        })
    }

    /// The next answer, or none once `limit` has passed; what has come by then is kept.
    pub(super) fn next(&mut self, limit: Option<Duration>) -> Result<Option<Answer>, Failure> {
        let limit = match limit {
            limit if self.has_answered => limit,
            limit => Some(limit.map_or(PATIENCE, |limit| limit.min(PATIENCE))),
        };
        // Zero is not allowed there, and means "look only" here.
        let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
        let broken = |e: io::Error| {
            let message = format!("can't read from {}: {e}", self.path.display());
            failure(Exit::NotRunning, message)
        };
        self.reader
            .get_ref()
            .set_read_timeout(limit)
            .map_err(broken)?;
        let room = LINE.saturating_sub(self.line.len() as u64);
        match (&mut self.reader)
            .take(room)
            .read_until(b'\n', &mut self.line)
        {
            Ok(_) if self.line.ends_with(b"\n") => {}
            Ok(_) => {
                let path = self.path.display();
                let message = format!("the agent has ended the conversation: {path}");
                return Err(failure(Exit::NotRunning, message));
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                if self.has_answered {
                    return Ok(None);
                }
                return Err(silent(self.path));
            }
            Err(e) => return Err(broken(e)),
        }
        self.has_answered = true;
        let line = std::mem::take(&mut self.line);
        let json: Value = serde_json::from_slice(&line).map_err(|e| {
            let path = self.path.display();
            failure(Exit::NotRunning, format!("{path} is not a vmagent: {e}"))
        })?;
        Ok(Some(Answer { line, json }))
    }
}

pub(super) fn silent(path: &Path) -> Failure {
    let message = format!("the agent does not answer on {}", path.display());
    failure(Exit::NotRunning, message)
}

fn failure(exit: Exit, message: String) -> Failure {
    Failure::Agent { message, exit }
}
