//! The tunnel's state machine: pure, with the time as an argument.
//!
//! ```text
//!            wanted                granted             probed, carried, 8 s over
//!   Idle ───────────> Opening ──────────────> Proving ────────────────────────────> Up
//!    ^                 │ ^  │ refused         ^                                      │
//!    │ nothing  ended, │ │  v         granted │       unused, and another login could │
//!    │ wanted     late │ │ PortHeld ──────────┘       come out better (ever later)    │
//!    │                 v │ due, nudge                                                v
//!    └── Closing ───> Waiting <─────────────────────────────────────────────────── Closing
//! ```
//!
//! `ended` leads from every state with a session to the next proxy or, after the last, to
//! `Waiting`; a change of what is wanted leads through `Closing` to `Idle` or a new `Opening`.
//! There is a session in `Opening`, `PortHeld`, `Proving`, `Up` and `Closing`, and never more than
//! one attempt at a time; every state but `Idle` has a deadline. Up on another proxy than the
//! first, it scouts the first one from time to time, and switches once that is up as well.
//!
//! A probe is evidence, not a verdict: `Up` has a [`Proof`], which says how much is known. No end
//! of a probe leads to `Closing`, and no session that is in use is ended for want of proof.

mod answers;
mod clock;
mod ranks;
mod state;

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::fault::{Fault, Pace};
use super::timing::Timing;
use ranks::Ranks;

pub use state::{Input, Next, Order, Probe, Proof, State};

/// The machine.
#[derive(Debug, Clone)]
pub struct Machine {
    timing: Timing,
    state: State,
    ranks: Ranks,
    attempt: u32,
    /// Users have connections open on the session that there is.
    in_use: bool,
    probes: Backoff,
    /// Logins in the hope of a better forward, since the tunnel was last proven.
    reopens: u32,
    random: fastrand::Rng,
}

impl Machine {
    /// A machine at rest.
    #[must_use]
    pub fn new(timing: Timing, mut random: fastrand::Rng) -> Self {
        let (base, cap) = timing.probe_retry;
        Self {
            ranks: Ranks::new(0, &timing, &mut random),
            probes: Backoff::new(base, cap, random.fork()),
            random,
            timing,
            state: State::Idle,
            attempt: 0,
            in_use: false,
            reopens: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many sessions were opened since the tunnel was last up.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When to call with [`Input::Tick`]; a tick that comes early does nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let or = |one: Instant, other: Option<Instant>| other.map_or(one, |other| one.min(other));
        match self.state {
            State::Idle => None,
            State::Opening { by, .. } | State::Closing { by, .. } => Some(by),
            State::PortHeld {
                retry_at, leave_at, ..
            } => Some(or(retry_at, leave_at)),
            State::Proving { by, probe_at, .. } => Some(by.min(probe_at)),
            State::Up {
                probe_at,
                scout_at,
                reopen_at,
                ..
            } => Some(or(or(probe_at, scout_at), reopen_at)),
            State::Waiting { until, .. } => Some(until),
        }
    }

    /// Takes one input at the moment `now`, which never runs backwards.
    pub fn step(&mut self, now: Instant, input: Input) -> Option<Order> {
        match input {
            Input::Wanted(proxies) => self.wanted(now, proxies),
            Input::Granted(port) => self.granted(now, port),
            Input::Refused { fault, shared } => self.refused(now, fault, shared),
            Input::Probed(probe) => {
                self.probed(now, probe);
                None
            }
            Input::InUse(in_use) => {
                self.in_use = in_use;
                None
            }
            Input::Ended(fault) => self.ended(now, fault),
            Input::Scouted(result) => self.scouted(now, result),
            Input::Nudge => self.nudge(now),
            Input::Woken => self.woken(now),
            Input::Tick => self.tick(now),
        }
    }

    fn wanted(&mut self, now: Instant, proxies: usize) -> Option<Order> {
        self.ranks = Ranks::new(proxies, &self.timing, &mut self.random);
        self.reopens = 0;
        let next = if proxies == 0 {
            Next::Rest
        } else {
            Next::Reopen
        };
        match &mut self.state {
            State::Idle | State::Waiting { .. } => self.follow(now, next),
            State::Closing { then, .. } => {
                *then = next;
                None
            }
            State::Opening { .. }
            | State::PortHeld { .. }
            | State::Proving { .. }
            | State::Up { .. } => self.close(now, next),
        }
    }

    fn open(&mut self, now: Instant, proxy: usize) -> Option<Order> {
        self.in_use = false;
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Opening {
            since: now,
            by: now + self.timing.attempt,
            proxy,
        };
        Some(Order::Open(proxy))
    }

    pub(super) fn ask(&mut self, now: Instant, since: Instant) -> Option<Order> {
        let again = self.ask_again(now, since);
        if let State::PortHeld { retry_at, .. } = &mut self.state {
            *retry_at = again;
        }
        Some(Order::Request)
    }

    pub(super) fn scout(&mut self, now: Instant) -> Option<Order> {
        // Its answer sets it anew; this is for an answer that never comes.
        if let State::Up { scout_at, .. } = &mut self.state {
            *scout_at = Some(now + 2 * self.timing.attempt);
        }
        Some(Order::Scout(0))
    }

    fn close(&mut self, now: Instant, then: Next) -> Option<Order> {
        // Twice what the session has for it: this is only a backstop.
        self.state = State::Closing {
            by: now + 2 * self.timing.close,
            then,
        };
        Some(Order::Close)
    }

    fn wait(&mut self, now: Instant, until: Instant, fault: Fault) -> Option<Order> {
        self.state = State::Waiting {
            since: now,
            until,
            fault,
        };
        None
    }

    fn follow(&mut self, now: Instant, next: Next) -> Option<Order> {
        match next {
            Next::Rest => {
                self.attempt = 0;
                self.state = State::Idle;
                None
            }
            Next::Reopen => self.open(now, 0),
            Next::Retry { proxy, fault } => {
                self.ranks.blame(now, proxy, &fault);
                if let Some(next) = self.ranks.next(now, proxy + 1) {
                    return self.open(now, next);
                }
                let until = self.ranks.another_round(now);
                self.wait(now, until, fault)
            }
        }
    }
}

/// The sequence has no end.
fn delay(backoff: &mut Backoff) -> Duration {
    backoff.next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
