//! Transitions by time that passes, and by news from outside.

use std::time::Instant;

use super::{Machine, Next, Order, Pace, Probe, Proof, State};
use crate::tunnel::fault::Fault;

impl Machine {
    /// Everything that failed may be different now.
    pub(super) fn nudge(&mut self, now: Instant) -> Option<Order> {
        match &mut self.state {
            State::Waiting { .. } => {
                self.ranks.reset();
                self.open(now, 0)
            }
            // Perhaps the proxy's rules were mended. Another login costs the users of the other
            // forwards their connections, so it waits until there are none.
            State::PortHeld { fault, .. } if fault.pace() == Pace::Slow && !self.in_use => {
                self.close(now, Next::Reopen)
            }
            State::PortHeld { since, .. } => {
                let since = *since;
                self.ask(now, since)
            }
            State::Up {
                probe_at,
                scout_at: Some(_),
                ..
            } => {
                *probe_at = now;
                self.ranks.reset();
                self.scout(now)
            }
            // The proxy may have been mended, which shows at another login only.
            State::Up {
                reopen_at: Some(_), ..
            } if !self.in_use => {
                self.reopens = 0;
                self.close(now, Next::Reopen)
            }
            State::Proving {
                met: Some(Probe::Failed(fault)),
                ..
            } if !self.in_use && fault.may_pass_on_another_login() => self.close(now, Next::Reopen),
            State::Proving { .. } | State::Up { .. } => Some(Order::Probe),
            State::Idle | State::Opening { .. } | State::Closing { .. } => None,
        }
    }

    /// Time has jumped: what heals by itself may have healed. A fault that a person has to mend
    /// keeps its pace, or a clock that is set again and again would turn into failed logins.
    pub(super) fn woken(&mut self, now: Instant) -> Option<Order> {
        self.ranks.reset_passing();
        match &mut self.state {
            State::Waiting { .. } => {
                let proxy = self.ranks.next(now, 0)?;
                self.open(now, proxy)
            }
            State::PortHeld { fault, .. } if fault.pace() == Pace::Slow => None,
            State::PortHeld { since, .. } => {
                let since = *since;
                self.ask(now, since)
            }
            State::Up {
                probe_at,
                scout_at: Some(_),
                ..
            } if self.ranks.next(now, 0) == Some(0) => {
                *probe_at = now;
                self.scout(now)
            }
            State::Proving { .. } | State::Up { .. } => Some(Order::Probe),
            State::Idle | State::Opening { .. } | State::Closing { .. } => None,
        }
    }

    pub(super) fn tick(&mut self, now: Instant) -> Option<Order> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match &mut self.state {
            State::Idle => None,
            State::Opening { proxy, .. } => {
                let proxy = *proxy;
                let after = self.timing.attempt;
                let fault = Fault::AttemptTimeout { after };
                self.close(now, Next::Retry { proxy, fault })
            }
            State::PortHeld {
                leave_at: Some(leave_at),
                proxy,
                fault,
                ..
            } if now >= *leave_at => {
                if self.in_use {
                    *leave_at = now + self.timing.port_held_leave;
                    return None;
                }
                let (proxy, fault) = (*proxy, fault.clone());
                self.close(now, Next::Retry { proxy, fault })
            }
            State::PortHeld { since, .. } => {
                let since = *since;
                self.ask(now, since)
            }
            State::Proving {
                by,
                met,
                proxy,
                port,
                ..
            } if now >= *by => {
                let after = self.timing.prove;
                let probe = met.take().unwrap_or(Probe::Untried(Fault::Unproven {
                    detail: format!("no probe has ended within {} s", after.as_secs()),
                }));
                let (proxy, port) = (*proxy, *port);
                self.settle(now, proxy, port, probe.proof());
                None
            }
            State::Proving { probe_at, .. } => {
                *probe_at = now + self.timing.probe_deadline;
                Some(Order::Probe)
            }
            State::Up { probe_at, .. } if now >= *probe_at => {
                *probe_at = now + self.timing.probe;
                Some(Order::Probe)
            }
            State::Up {
                reopen_at: Some(reopen_at),
                proxy,
                proof: Proof::Doubtful(fault),
                ..
            } if now >= *reopen_at => {
                if self.in_use {
                    *reopen_at = now + self.timing.probe;
                    return None;
                }
                let (proxy, fault) = (*proxy, fault.clone());
                self.close(now, Next::Retry { proxy, fault })
            }
            State::Up { .. } => self.scout(now),
            State::Waiting { fault, .. } => match self.ranks.next(now, 0) {
                Some(proxy) => self.open(now, proxy),
                None => {
                    let fault = fault.clone();
                    let until = self.ranks.another_round(now);
                    self.wait(now, until, fault)
                }
            },
            State::Closing { .. } => self.ended(now, Fault::Stopped),
        }
    }
}
