//! How long a tunnel that was up is kept when the verdict needs it no more. Pure: the time comes
//! in.
//!
//! ```text
//!            needed                    needed, at any time
//!   (none) ─────────> needed <───────────────────────────────┐
//!      ^                │ not needed, and it was never up    │
//!      ├────────────────┤                                    │
//!      │                └ not needed, but it was up ──> kept ┤
//!      └── a quiet minute has passed, or an hour in all ─────┘
//! ```
//!
//! A tunnel is put up at once: one too many costs little. It is taken down late: a network that is
//! being set up anew shows a global IPv6 address before its private IPv4 one, a cloud moves an
//! address from one machine to the next, and whoever is logged in through the tunnel would be cut.

use std::time::{Duration, Instant};

/// For how long the verdict must go on to need no tunnel, with nothing open through it. Twice the
/// longest distance between two looks at the network, and a lease, an advertised prefix or a
/// mapped address that comes back comes back within it.
const QUIET: Duration = Duration::from_secs(60);

/// For how long open connections keep it. Then a session that somebody forgot has had its time,
/// and who still works has long been able to come in directly.
const BUSY: Duration = Duration::from_secs(3600);

/// What goes through the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Nothing can.
    Down,
    /// It is up, and nothing is open through it.
    Idle,
    /// Connections are open.
    Open,
}

/// The memory of the rule.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    /// One is held.
    held: bool,
    /// It has been up meanwhile.
    was_up: bool,
    /// When the verdict first needed it no more, and when something was last open after that.
    unneeded: Option<(Instant, Instant)>,
}

impl Hold {
    /// It is wanted.
    pub fn wanted(&mut self, traffic: Traffic) {
        self.held = true;
        self.was_up |= traffic != Traffic::Down;
        self.unneeded = None;
    }

    /// It can't be had, or a person does not want it: that is obeyed at once.
    pub fn drop_it(&mut self) {
        *self = Self::default();
    }

    /// The verdict needs none: until when one is kept all the same, if it is.
    ///
    /// That moment moves on while connections are open, so it is to be asked for again then.
    pub fn kept_until(&mut self, now: Instant, traffic: Traffic) -> Option<Instant> {
        self.was_up |= traffic != Traffic::Down;
        if !(self.held && self.was_up) {
            self.drop_it();
            return None;
        }
        let (since, busy) = self.unneeded.get_or_insert((now, now));
        if traffic == Traffic::Open {
            *busy = now;
        }
        let until = (*busy + QUIET).min(*since + BUSY);
        if now < until {
            return Some(until);
        }
        self.drop_it();
        None
    }
}

#[cfg(test)]
mod tests;
