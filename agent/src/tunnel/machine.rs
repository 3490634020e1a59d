//! The tunnel's state machine: pure, with the time as an argument.
//!
//! ```text
//!            wanted                granted             answered, forbidden, partial
//!   Idle ───────────> Opening ──────────────> Proving ─────────────────────────────> Up
//!    ^                 │ ^  │ refused         ^ │ ^            two probes failed     │
//!    │ nothing  ended, │ │  v         granted │ │ └─────────────────────────────────┘
//!    │ wanted     late │ │ PortHeld ──────────┘ │ unproven for too long
//!    │                 v │ due, nudge           v
//!    └── Closing ───> Waiting <──────────── Closing
//! ```
//!
//! `ended` leads from every state with a session to `Waiting`, and a change of what is wanted
//! through `Closing` to `Idle` or a new `Opening`. There is a session in `Opening`, `PortHeld`,
//! `Proving`, `Up` and `Closing`, and never more than one; every state but `Idle` has a deadline.

mod state;

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::fault::{Fault, Pace};
use super::timing::Timing;

pub use state::{Input, Next, Order, Probe, Proof, State};

/// The machine.
#[derive(Debug)]
pub struct Machine {
    timing: Timing,
    state: State,
    proxies: usize,
    attempt: u32,
    soon: Backoff,
    slow: Backoff,
    held: Backoff,
    probes: Backoff,
}

impl Machine {
    /// A machine at rest.
    #[must_use]
    pub fn new(timing: Timing, mut random: fastrand::Rng) -> Self {
        let mut backoff = |base, cap| Backoff::new(base, cap, random.fork());
        Self {
            soon: backoff(timing.retry_base, timing.retry_cap),
            slow: backoff(timing.slow_base, timing.slow_cap),
            held: backoff(timing.port_held.0, timing.port_held.1),
            probes: backoff(timing.probe_retry.0, timing.probe_retry.1),
            timing,
            state: State::Idle,
            proxies: 0,
            attempt: 0,
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
        match self.state {
            State::Idle => None,
            State::Opening { by, .. } | State::Closing { by, .. } => Some(by),
            State::PortHeld { retry_at, .. } => Some(retry_at),
            State::Proving { by, probe_at, .. } => Some(by.min(probe_at)),
            State::Up { probe_at, .. } => Some(probe_at),
            State::Waiting { until, .. } => Some(until),
        }
    }

    /// Takes one input at the moment `now`, which never runs backwards.
    pub fn step(&mut self, now: Instant, input: Input) -> Option<Order> {
        match input {
            Input::Wanted(proxies) => self.wanted(now, proxies),
            Input::Granted(port) => self.granted(now, port),
            Input::Refused(fault) => self.refused(now, fault),
            Input::Probed(probe) => self.probed(now, probe),
            Input::Ended(fault) => self.ended(now, fault),
            Input::Nudge => self.nudge(now),
            Input::Tick => self.tick(now),
        }
    }

    fn wanted(&mut self, now: Instant, proxies: usize) -> Option<Order> {
        self.proxies = proxies;
        self.reset();
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

    fn granted(&mut self, now: Instant, port: u16) -> Option<Order> {
        let (State::Opening { proxy, .. } | State::PortHeld { proxy, .. }) = self.state else {
            return None;
        };
        self.held.reset();
        self.probes.reset();
        self.state = State::Proving {
            since: now,
            by: now + self.timing.prove,
            probe_at: now + self.timing.probe_deadline,
            proxy,
            port,
            fault: None,
        };
        Some(Order::Probe)
    }

    fn refused(&mut self, now: Instant, fault: Fault) -> Option<Order> {
        let (proxy, since) = match self.state {
            State::Opening { proxy, .. } => (proxy, now),
            State::PortHeld { proxy, since, .. } => (proxy, since),
            State::Idle
            | State::Proving { .. }
            | State::Up { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => return None,
        };
        let retry_at = now + delay(&mut self.held);
        self.state = State::PortHeld {
            since,
            retry_at,
            proxy,
            fault,
        };
        None
    }

    fn probed(&mut self, now: Instant, probe: Probe) -> Option<Order> {
        let (proxy, port, up_since) = match self.state {
            State::Proving { proxy, port, .. } => (proxy, port, None),
            State::Up {
                proxy, port, since, ..
            } => (proxy, port, Some(since)),
            State::Idle
            | State::Opening { .. }
            | State::PortHeld { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => return None,
        };
        let proof = match probe {
            Probe::Answered => Proof::Proven,
            Probe::Forbidden => Proof::Forbidden,
            Probe::Partial(fault) => Proof::Partial(fault),
            Probe::Failed(fault) => {
                self.probe_failed(now, fault);
                return None;
            }
        };
        self.attempt = 0;
        self.probes.reset();
        self.state = State::Up {
            since: up_since.unwrap_or(now),
            probe_at: now + self.timing.probe,
            proxy,
            port,
            proof,
            missed: 0,
        };
        None
    }

    fn probe_failed(&mut self, now: Instant, met: Fault) {
        let retry_at = now + delay(&mut self.probes);
        match &mut self.state {
            State::Proving {
                by,
                probe_at,
                fault,
                ..
            } => {
                *probe_at = retry_at;
                // No other session would do better while sshd is what is missing.
                if matches!(met, Fault::SshdDown { .. }) {
                    *by = retry_at + self.timing.prove;
                }
                *fault = Some(met);
            }
            // One probe may be lost to chance; the second one tells.
            State::Up {
                probe_at,
                missed: missed @ 0,
                ..
            } => {
                *missed = 1;
                *probe_at = retry_at;
            }
            &mut State::Up { proxy, port, .. } => {
                self.state = State::Proving {
                    since: now,
                    by: now + self.timing.prove,
                    probe_at: retry_at,
                    proxy,
                    port,
                    fault: Some(met),
                };
            }
            State::Idle
            | State::Opening { .. }
            | State::PortHeld { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => {}
        }
    }

    fn ended(&mut self, now: Instant, fault: Fault) -> Option<Order> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Closing { then, .. } => self.follow(now, then),
            State::Opening { proxy, .. } if proxy + 1 < self.proxies => self.open(now, proxy + 1),
            State::Opening { .. } | State::PortHeld { .. } | State::Proving { .. } => {
                self.follow(now, Next::Retry(fault))
            }
            State::Up { since, .. } => {
                if now.duration_since(since) >= self.timing.healthy {
                    self.reset();
                }
                self.follow(now, Next::Retry(fault))
            }
            unchanged @ (State::Idle | State::Waiting { .. }) => {
                self.state = unchanged;
                None
            }
        }
    }

    fn nudge(&mut self, now: Instant) -> Option<Order> {
        match &mut self.state {
            State::Waiting { .. } => {
                self.reset();
                self.open(now, 0)
            }
            State::PortHeld { retry_at, .. } => {
                self.held.reset();
                *retry_at = now + delay(&mut self.held);
                Some(Order::Request)
            }
            State::Proving { .. } | State::Up { .. } => Some(Order::Probe),
            State::Idle | State::Opening { .. } | State::Closing { .. } => None,
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Order> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match &mut self.state {
            State::Idle => None,
            State::Opening { .. } => {
                let after = self.timing.attempt;
                self.close(now, Next::Retry(Fault::AttemptTimeout { after }))
            }
            State::PortHeld { retry_at, .. } => {
                *retry_at = now + delay(&mut self.held);
                Some(Order::Request)
            }
            State::Proving { by, fault, .. } if now >= *by => {
                let after = self.timing.prove;
                let fault = fault.take().unwrap_or(Fault::AttemptTimeout { after });
                self.close(now, Next::Retry(fault))
            }
            State::Proving { probe_at, .. } => {
                *probe_at = now + self.timing.probe_deadline;
                Some(Order::Probe)
            }
            State::Up { probe_at, .. } => {
                *probe_at = now + self.timing.probe;
                Some(Order::Probe)
            }
            State::Waiting { .. } => self.open(now, 0),
            State::Closing { .. } => self.ended(now, Fault::Stopped),
        }
    }

    fn open(&mut self, now: Instant, proxy: usize) -> Option<Order> {
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Opening {
            since: now,
            by: now + self.timing.attempt,
            proxy,
        };
        Some(Order::Open(proxy))
    }

    fn close(&mut self, now: Instant, then: Next) -> Option<Order> {
        // Twice what the session has for it: this is only a backstop.
        self.state = State::Closing {
            by: now + 2 * self.timing.close,
            then,
        };
        Some(Order::Close)
    }

    fn follow(&mut self, now: Instant, next: Next) -> Option<Order> {
        match next {
            Next::Rest => {
                self.attempt = 0;
                self.state = State::Idle;
                None
            }
            Next::Reopen => self.open(now, 0),
            Next::Retry(fault) => {
                let delay = match fault.pace() {
                    Pace::Soon => delay(&mut self.soon),
                    Pace::Slow => delay(&mut self.slow).max(self.timing.slow_floor),
                };
                let until = now + delay;
                self.state = State::Waiting {
                    since: now,
                    until,
                    fault,
                };
                None
            }
        }
    }

    fn reset(&mut self) {
        self.soon.reset();
        self.slow.reset();
    }
}

/// The sequence has no end.
fn delay(backoff: &mut Backoff) -> Duration {
    backoff.next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
