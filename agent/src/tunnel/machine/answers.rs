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
            met: None,
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
        // The proxy reads its rules at the login, so only another login can find others. Where
        // other forwards of this session are granted or in use, that waits for news.
        if for_a_person && !shared && !self.in_use {
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

    /// When to ask for a held port again: quickly while a stale session of this guest may hold it.
    pub(super) fn ask_again(&mut self, now: Instant, since: Instant) -> Instant {
        let held = now.saturating_duration_since(since);
        let (early, late) = self.timing.port_held;
        let longest = if held < early {
            // A stale session that was reset a moment ago.
            early / 6
        } else if held < self.timing.port_held_ghost {
            early
        } else {
            late
        };
        now + longest.mul_f64(0.55 + 0.45 * self.random.f64())
    }

    /// Takes the end of a probe. It never ends the session: see [`Machine::reopen_again`].
    pub(super) fn probed(&mut self, now: Instant, probe: Probe) {
        let (State::Proving { proxy, port, .. } | State::Up { proxy, port, .. }) = self.state
        else {
            return;
        };
        let proving = matches!(self.state, State::Proving { .. });
        match probe {
            Probe::Answered => {
                self.settle(now, proxy, port, Proof::Proven);
                // The probe's way is open.
                if let State::Up { vouched, .. } = &mut self.state {
                    *vouched = None;
                }
            }
            Probe::Carried => self.carried(now, proxy, port),
            // Nothing more is to be learned by another one.
            Probe::Untried(_) if proving => self.settle(now, proxy, port, probe.proof()),
            Probe::Untried(_) | Probe::Partial(_) | Probe::Failed(_) => {
                self.probe_failed(now, probe);
            }
        }
    }

    /// A user's traffic proves more than a probe. Where probes fail at the same time, it is the
    /// probe's own way that is blocked.
    fn carried(&mut self, now: Instant, proxy: usize, port: u16) {
        let doubted = match &self.state {
            State::Proving { met, .. } => met.is_some(),
            State::Up {
                proof,
                missed,
                vouched,
                ..
            } => *missed > 0 || *proof != Proof::Proven || vouched.is_some(),
            State::Idle
            | State::Opening { .. }
            | State::PortHeld { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => false,
        };
        self.settle(now, proxy, port, Proof::Proven);
        if let (true, State::Up { vouched, .. }) = (doubted, &mut self.state) {
            *vouched = Some(now + self.timing.vouched);
        }
    }

    /// The tunnel is up, and this much is known of it.
    pub(super) fn settle(&mut self, now: Instant, proxy: usize, port: u16, proof: Proof) {
        let (since, scout_at, before, vouched) = if let State::Up {
            since,
            scout_at,
            reopen_at,
            vouched,
            ..
        } = self.state
        {
            (since, scout_at, reopen_at, vouched)
        } else {
            (now, self.scout_again(now, proxy), None, None)
        };
        self.attempt = 0;
        let mut probe_at = now + self.timing.probe;
        let mut reopen_at = None;
        match &proof {
            Proof::Proven => {
                self.probes.reset();
                if now.saturating_duration_since(since) >= self.timing.settled {
                    self.reopens = 0;
                }
                self.ranks.praise(proxy);
            }
            Proof::Untried(_) => self.probes.reset(),
            Proof::Doubtful(fault) => {
                let mut pause = delay(&mut self.probes);
                if let Fault::SshdDown { .. } = fault {
                    // sshd comes back by itself, and a probe of it costs the proxy little.
                    pause = pause.min(self.timing.probe_sshd);
                }
                probe_at = now + pause;
                reopen_at = fault
                    .may_pass_on_another_login()
                    .then(|| before.unwrap_or_else(|| self.reopen_again(now, fault)));
            }
        }
        self.state = State::Up {
            since,
            probe_at,
            scout_at,
            reopen_at,
            proxy,
            port,
            proof,
            missed: 0,
            vouched,
        };
    }

    /// When to log in again in the hope of a better forward. `ssh -R` never would, so the
    /// distances grow.
    fn reopen_again(&mut self, now: Instant, fault: &Fault) -> Instant {
        let (usual, longest) = self.timing.reopen;
        let first = if matches!(fault, Fault::PathMtu { .. }) {
            // No login passes, and the next session has smaller packets.
            self.timing.retry_base
        } else {
            usual
        };
        let doubled = first.saturating_mul(1 << self.reopens.min(16)).min(longest);
        self.reopens = self.reopens.saturating_add(1);
        now + doubled.mul_f64(0.75 + 0.25 * self.random.f64())
    }

    /// When to look for the first proxy; not in step with other agents that fled from it.
    fn scout_again(&mut self, now: Instant, proxy: usize) -> Option<Instant> {
        let pause = self.timing.scout.mul_f64(0.5 + self.random.f64());
        let at = (now + pause).max(self.ranks.blocked(0).unwrap_or(now));
        (proxy > 0).then_some(at)
    }

    fn probe_failed(&mut self, now: Instant, probe: Probe) {
        let (proxy, port) = match &mut self.state {
            State::Proving { probe_at, met, .. } => {
                *met = Some(probe);
                *probe_at = now + delay(&mut self.probes);
                return;
            }
            // Users come in all the same: only a missing sshd would be news.
            State::Up {
                vouched: Some(until),
                probe_at,
                ..
            } if now < *until && probe.fails_on_its_way() => {
                *probe_at = now + self.timing.probe;
                return;
            }
            // One probe may be lost to chance; the second one tells.
            State::Up {
                probe_at,
                proof,
                missed: missed @ 0,
                ..
            } if probe.may_be_chance(proof) => {
                *missed = 1;
                *probe_at = now + delay(&mut self.probes);
                return;
            }
            State::Up { proxy, port, .. } => (*proxy, *port),
            State::Idle
            | State::Opening { .. }
            | State::PortHeld { .. }
            | State::Waiting { .. }
            | State::Closing { .. } => return,
        };
        self.settle(now, proxy, port, probe.proof());
    }

    pub(super) fn ended(&mut self, now: Instant, fault: Fault) -> Option<Order> {
        self.in_use = false;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Closing { then, .. } => self.follow(now, then),
            State::Opening { proxy, .. }
            | State::PortHeld { proxy, .. }
            | State::Proving { proxy, .. } => self.follow(now, Next::Retry { proxy, fault }),
            State::Up { since, proxy, .. } => {
                if now.duration_since(since) >= self.timing.healthy {
                    self.ranks.praise(proxy);
                } else {
                    self.ranks.blame(now, proxy, &fault);
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
        // A silent proxy stays silent for a while: asking it again would cost users one deadline.
        let silent = matches!(fault, Fault::KeepaliveLost { .. });
        if let (true, Some(next)) = (silent, self.ranks.next(now, proxy + 1)) {
            return self.open(now, next);
        }
        // All agents of a proxy lose it in the same moment.
        let until = now + self.timing.spread.mul_f64(self.random.f64());
        let until = until.max(self.ranks.another_round(now));
        self.wait(now, until, fault)
    }

    pub(super) fn scouted(
        &mut self,
        now: Instant,
        result: Result<(u16, Proof), Fault>,
    ) -> Option<Order> {
        let (State::Up { proxy, .. } | State::Proving { proxy, .. }) = self.state else {
            return None;
        };
        match result {
            Ok((port, proof)) => {
                self.state = State::Idle;
                self.in_use = false;
                self.settle(now, 0, port, proof);
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
