//! What follows from what a session says.

use std::time::Instant;

use super::{Machine, Next, Order, Probe, Proof, State, delay};
use crate::tunnel::fault::{Fault, Pace};

impl Machine {
    pub(super) fn granted(&mut self, now: Instant, port: u16) -> Option<Order> {
        let (State::Opening { proxy, .. } | State::PortHeld { proxy, .. }) = self.state else {
            return None;
        };
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

    pub(super) fn refused(&mut self, now: Instant, fault: Fault, shared: bool) -> Option<Order> {
        let (proxy, before) = match self.state {
            State::Opening { proxy, .. } => (proxy, None),
            State::PortHeld {
                proxy,
                since,
                leave_at,
                ..
            } => (proxy, Some((since, leave_at))),
            State::Idle
            | State::Proving { .. }
            | State::Up { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => return None,
        };
        let for_a_person = fault.pace() == Pace::Slow;
        // The proxy took its rules at the login, and the next one may find others. Where other
        // forwards of this session are in use, that waits for news.
        if for_a_person && !shared {
            return self.close(now, Next::Retry { proxy, fault });
        }
        let elsewhere = self.ranks.count() > 1;
        let (since, leave_at) =
            before.unwrap_or((now, elsewhere.then(|| now + self.timing.port_held_leave)));
        let retry_at = if for_a_person {
            now + self.timing.slow_cap
        } else {
            self.ask_again(now, since)
        };
        self.state = State::PortHeld {
            since,
            retry_at,
            leave_at,
            proxy,
            fault,
        };
        None
    }

    /// When to ask for a held port again: quickly for as long as it may be a ghost of our own.
    pub(super) fn ask_again(&mut self, now: Instant, since: Instant) -> Instant {
        let held = now.saturating_duration_since(since);
        let (early, late) = self.timing.port_held;
        let longest = if held < early {
            // A ghost that we have just reset ourselves.
            early / 6
        } else if held < self.timing.port_held_ghost {
            early
        } else {
            late
        };
        now + longest.mul_f64(0.55 + 0.45 * self.random.f64())
    }

    pub(super) fn probed(&mut self, now: Instant, probe: Probe) -> Option<Order> {
        let (proxy, port) = match self.state {
            State::Proving { proxy, port, .. } | State::Up { proxy, port, .. } => (proxy, port),
            State::Idle
            | State::Opening { .. }
            | State::PortHeld { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => return None,
        };
        match probe.proof() {
            Ok(proof) => self.prove(now, proxy, port, proof),
            Err(fault) => self.probe_failed(now, fault),
        }
        None
    }

    fn prove(&mut self, now: Instant, proxy: usize, port: u16, proof: Proof) {
        let (since, scout_at) = if let State::Up {
            since, scout_at, ..
        } = self.state
        {
            (since, scout_at)
        } else {
            (now, self.scout_again(now, proxy))
        };
        self.attempt = 0;
        self.probes.reset();
        if proof == Proof::Proven {
            self.ranks.praise(proxy);
        }
        self.state = State::Up {
            since,
            probe_at: now + self.timing.probe,
            scout_at,
            proxy,
            port,
            proof,
            missed: 0,
        };
    }

    /// When to look for the first proxy; not in step with other agents that fled from it.
    fn scout_again(&mut self, now: Instant, proxy: usize) -> Option<Instant> {
        let pause = self.timing.scout.mul_f64(0.5 + self.random.f64());
        let at = (now + pause).max(self.ranks.blocked(0).unwrap_or(now));
        (proxy > 0).then_some(at)
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

    pub(super) fn ended(&mut self, now: Instant, fault: Fault) -> Option<Order> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Closing { then, .. } => self.follow(now, then),
            State::Opening { proxy, .. }
            | State::PortHeld { proxy, .. }
            | State::Proving { proxy, .. } => self.follow(now, Next::Retry { proxy, fault }),
            State::Up { since, proxy, .. } => {
                if now.duration_since(since) >= self.timing.healthy {
                    self.ranks.praise(proxy);
                }
                self.lost(now, proxy, fault)
            }
            unchanged @ (State::Idle | State::Waiting { .. }) => {
                self.state = unchanged;
                None
            }
        }
    }

    /// A tunnel that was up is gone.
    fn lost(&mut self, now: Instant, proxy: usize, fault: Fault) -> Option<Order> {
        // Who is silent stays so; to ask it again would cost users another deadline.
        let silent = matches!(fault, Fault::KeepaliveLost { .. });
        if let (true, Some(next)) = (silent, self.ranks.next(now, proxy + 1)) {
            return self.open(now, next);
        }
        // All agents of a proxy lose it in the same moment.
        let until = now + self.timing.spread.mul_f64(self.random.f64());
        self.wait(now, until, fault)
    }

    pub(super) fn scouted(
        &mut self,
        now: Instant,
        result: Result<(u16, Proof), Fault>,
    ) -> Option<Order> {
        let State::Up { proxy, .. } = self.state else {
            return None;
        };
        match result {
            Ok((port, proof)) => {
                self.state = State::Idle;
                self.prove(now, 0, port, proof);
                Some(Order::Switch)
            }
            Err(fault) => {
                self.ranks.blame(now, 0, &fault);
                let again = self.scout_again(now, proxy);
                if let State::Up { scout_at, .. } = &mut self.state {
                    *scout_at = again;
                }
                None
            }
        }
    }
}
