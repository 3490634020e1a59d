//! Which proxy to try next, and when: in the document's order, each paced by what it failed of.

use std::time::{Duration, Instant};

use crate::tunnel::backoff::Backoff;
use crate::tunnel::fault::{Fault, Pace};
use crate::tunnel::timing::Timing;

/// The proxies of the document, in its order.
#[derive(Debug, Clone)]
pub(super) struct Ranks {
    proxies: Vec<Rank>,
    /// [`Timing::slow_young`].
    young: (Duration, Duration, Duration),
    random: fastrand::Rng,
}

/// One proxy, with its delays by what it failed of.
#[derive(Debug, Clone)]
struct Rank {
    free: Backoff,
    soon: Backoff,
    slow: Backoff,
    /// When it first failed of what a person has to mend, since it was last good.
    slow_since: Option<Instant>,
    /// Not to be tried before that.
    blocked: Option<Instant>,
}

impl Ranks {
    pub(super) fn new(count: usize, timing: &Timing, random: &mut fastrand::Rng) -> Self {
        let mut rank = || Rank {
            free: Backoff::new(timing.retry_base, timing.free_cap, random.fork()),
            soon: Backoff::new(timing.retry_base, timing.retry_cap, random.fork()),
            slow: Backoff::new(timing.slow_base, timing.slow_cap, random.fork()),
            slow_since: None,
            blocked: None,
        };
        Self {
            proxies: (0..count).map(|_| rank()).collect(),
            young: timing.slow_young,
            random: random.fork(),
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

    /// Time has jumped: what heals by itself may be different now.
    pub(super) fn reset_passing(&mut self) {
        let passing = |rank: &&mut Rank| rank.slow_since.is_none();
        self.proxies
            .iter_mut()
            .filter(passing)
            .for_each(Rank::reset);
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
            Pace::Slow => {
                let (young, shortest, longest) = self.young;
                let since = *rank.slow_since.get_or_insert(now);
                if now.saturating_duration_since(since) < young {
                    let spread = (longest - shortest).mul_f64(self.random.f64());
                    Some(shortest + spread)
                } else {
                    rank.slow.next().map(|delay| delay.max(shortest))
                }
            }
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
        self.slow_since = None;
        self.blocked = None;
    }
}
