//! How long a test waits for the agent and for other programs.
//!
//! Each limit is longer than the longest delay that the agent may have by its own timing. A wait
//! ends as soon as its condition holds, so a long limit costs time in a failing test only. The time
//! that the agent promises for something ("up in 2 s") is no such limit: it stands in the test that
//! measures it, by [`crate::stopwatch`].

use std::time::Duration;

/// The delay of a test, of the agent and of its peers together on a machine that is busy with
/// other work.
const BUSY: u64 = 30;

/// For what the agent does in one step or a few.
///
/// The longest is a tunnel that comes up in the second attempt: an attempt ends after 60 s
/// (`Timing::attempt` in tunnel/timing.rs), and the next one begins up to 30 s later
/// (`Timing::retry_cap`). Shorter are news (30 s apart, news/pace.rs), a bind of the bridge's
/// socket (3 s, bridge/pace.rs), a look at the program that has its port (10 s after the first),
/// a check of sshd (30 s), the end of a connection whose other end has left (70 s, relay/channel.rs)
/// and, for two minutes, a tunnel that waits for a person (8 s, `Timing::slow_young`).
pub const SOON: Duration = Duration::from_secs(60 + 30 + BUSY);

/// For the next look at the metadata after looks that failed.
///
/// They are 75 s apart at most (metadata/schedule.rs: up to 60 s, and a quarter more); a look takes
/// 5 s for each exchange with a service, and there are three at most (metadata/sources/http.rs).
pub const ROUND: Duration = Duration::from_secs(75 + 3 * 5 + BUSY);

/// For a report after one that failed for the first, second or third time.
///
/// A report follows a failure after 25 s at most (report/pace.rs: 5, 10, 20 s, and a quarter more),
/// and is given up after 10 s (report/send.rs).
pub const REPORT: Duration = Duration::from_secs(25 + 10 + BUSY);

/// For a program of Debian that does something short: ip, nft, ssh-keygen, the start of a server.
pub const PROGRAM: Duration = Duration::from_secs(2 * BUSY);
