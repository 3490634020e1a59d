//! Which proxy to try next, and when: in the document's order, each paced by what it failed of.

use std::time::{Duration, Instant};

use crate::tunnel::backoff::Backoff;
use crate::tunnel::fault::{Fault, Pace};
use crate::tunnel::timing::Timing;

/// The proxies of the document, in its order.
#[derive(Debug)]
pub(super) struct Ranks {
    proxies: Vec<Rank>,
    floor: Duration,
}

/// One proxy, with its delays by what it failed of.
#[derive(Debug)]
struct Rank {
    free: Backoff,
    soon: Backoff,
    slow: Backoff,
    /// Not to be tried before that.
    blocked: Option<Instant>,
}

impl Ranks {
    pub(super) fn new(count: usize, timing: &Timing, random: &mut fastrand::Rng) -> Self {
        let mut rank = || Rank {
            free: Backoff::new(timing.retry_base, timing.free_cap, random.fork()),
            soon: Backoff::new(timing.retry_base, timing.retry_cap, random.fork()),
            slow: Backoff::new(timing.slow_base, timing.slow_cap, random.fork()),
            blocked: None,
        };
        Self {
            proxies: (0..count).map(|_| rank()).collect(),
            floor: timing.slow_floor,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.proxies.len()
    }

    /// News: everything may be different now.
    pub(super) fn reset(&mut self) {
        self.proxies.iter_mut().for_each(Rank::reset);
    }

    /// This one is good.
    pub(super) fn praise(&mut self, proxy: usize) {
        if let Some(rank) = self.proxies.get_mut(proxy) {
            rank.reset();
        }
    }

    /// This one failed.
    pub(super) fn blame(&mut self, now: Instant, proxy: usize, fault: &Fault) {
        let Some(rank) = self.proxies.get_mut(proxy) else {
            return;
        };
        let delay = match fault.pace() {
            Pace::Free => rank.free.next(),
            Pace::Soon => rank.soon.next(),
            Pace::Slow => rank.slow.next().map(|delay| delay.max(self.floor)),
        };
        rank.blocked = delay.map(|delay| now + delay);
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

    /// When the first of them may be tried again; at once where there is none to wait for.
    pub(super) fn another_round(&self, now: Instant) -> Instant {
        let times = self.proxies.iter().map(|rank| rank.blocked.unwrap_or(now));
        times.min().unwrap_or(now)
    }
}

impl Rank {
    fn reset(&mut self) {
        self.free.reset();
        self.soon.reset();
        self.slow.reset();
        self.blocked = None;
    }
}
