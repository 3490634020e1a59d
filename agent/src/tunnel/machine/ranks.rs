//! Which proxy to try next: in the document's order, without those that a person has to mend first.

use std::time::{Duration, Instant};

use crate::tunnel::backoff::Backoff;
use crate::tunnel::fault::{Fault, Pace};
use crate::tunnel::timing::Timing;

/// The proxies of the document, in its order.
#[derive(Debug)]
pub(super) struct Ranks {
    proxies: Vec<Rank>,
    /// Paces rounds in which a proxy failed that may heal by itself.
    soon: Backoff,
    floor: Duration,
}

/// One proxy.
#[derive(Debug)]
struct Rank {
    slow: Backoff,
    /// Not to be tried before that: a person has to act first.
    blocked: Option<Instant>,
}

impl Ranks {
    pub(super) fn new(count: usize, timing: &Timing, random: &mut fastrand::Rng) -> Self {
        let rank = |random: &mut fastrand::Rng| Rank {
            slow: Backoff::new(timing.slow_base, timing.slow_cap, random.fork()),
            blocked: None,
        };
        Self {
            proxies: (0..count).map(|_| rank(random)).collect(),
            soon: Backoff::new(timing.retry_base, timing.retry_cap, random.fork()),
            floor: timing.slow_floor,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.proxies.len()
    }

    /// News: everything may be different now.
    pub(super) fn reset(&mut self) {
        self.soon.reset();
        self.proxies.iter_mut().for_each(Rank::reset);
    }

    /// This one is good.
    pub(super) fn praise(&mut self, proxy: usize) {
        self.soon.reset();
        if let Some(rank) = self.proxies.get_mut(proxy) {
            rank.reset();
        }
    }

    /// This one failed.
    pub(super) fn blame(&mut self, now: Instant, proxy: usize, fault: &Fault) {
        let (Some(rank), Pace::Slow) = (self.proxies.get_mut(proxy), fault.pace()) else {
            return;
        };
        let delay = rank.slow.next().unwrap_or_default().max(self.floor);
        rank.blocked = Some(now + delay);
    }

    /// The first one from `from` on that may be tried now.
    pub(super) fn next(&self, now: Instant, from: usize) -> Option<usize> {
        let open = |rank: &Rank| rank.blocked.is_none_or(|until| until <= now);
        let mut rest = self.proxies.iter().enumerate().skip(from);
        rest.find(|(_, rank)| open(rank)).map(|(index, _)| index)
    }

    /// Until when this one is not to be tried.
    pub(super) fn blocked(&self, proxy: usize) -> Option<Instant> {
        self.proxies.get(proxy)?.blocked
    }

    /// When to begin another round, after one in which all have failed.
    pub(super) fn another_round(&mut self, now: Instant) -> Instant {
        let soon = now + self.soon.next().unwrap_or_default();
        let of = |rank: &Rank| rank.blocked.filter(|until| *until > now).unwrap_or(soon);
        self.proxies.iter().map(of).min().unwrap_or(soon)
    }
}

impl Rank {
    fn reset(&mut self) {
        self.slow.reset();
        self.blocked = None;
    }
}
