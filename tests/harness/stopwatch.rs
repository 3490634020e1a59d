//! Measures what the agent promises to do within a time.

use std::fs;
use std::time::{Duration, Instant};

/// The time that an agent needs.
///
/// A machine that is busy with other work makes the agent wait for a processor. The kernel counts
/// that time, and it is no delay of the agent's: it is not part of what is measured.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    id: u32,
    began: Instant,
    waited: Duration,
}

impl Stopwatch {
    /// Begins now, for the agent with this process id.
    pub fn start(id: u32) -> Self {
        Self {
            id,
            began: Instant::now(),
            waited: waited(id),
        }
    }

    /// The time since it began, without that in which the agent waited for a processor.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.waited())
    }

    /// The time since it began in which the agent waited for a processor.
    pub fn waited(&self) -> Duration {
        waited(self.id).saturating_sub(self.waited)
    }
}

/// How long a process has been ready to run and has not run (proc(5), schedstat: the second number,
/// in nanoseconds). Nothing where the kernel does not count it, or the process is gone.
fn waited(id: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{id}/schedstat")).unwrap_or_default();
    let waited = text.split_whitespace().nth(1);
    Duration::from_nanos(waited.and_then(|word| word.parse().ok()).unwrap_or(0))
}
