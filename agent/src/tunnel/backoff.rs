//! Delays that grow by doubling, with full jitter.

use std::time::Duration;

/// Yields each next delay: uniform in zero to `base * 2^n`, and to `cap` at most.
///
/// Full jitter spreads a fleet that lost one proxy over the whole delay
/// (AWS Architecture Blog, "Exponential Backoff and Jitter", 2015).
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    doublings: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Delays from `base` up to `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration, random: fastrand::Rng) -> Self {
        Self {
            base,
            cap,
            doublings: 0,
            random,
        }
    }

    /// Starts over at the base.
    pub fn reset(&mut self) {
        self.doublings = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let factor = 1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        self.doublings = self.doublings.saturating_add(1).min(31);
        Some(ceiling.mul_f64(self.random.f64()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(250);
    const CAP: Duration = Duration::from_secs(30);

    proptest! {
        #[test]
        fn no_delay_is_over_its_ceiling(seed: u64) {
            let mut ceiling = BASE;
            for delay in Backoff::new(BASE, CAP, fastrand::Rng::with_seed(seed)).take(100) {
                prop_assert!(delay <= ceiling);
                ceiling = (ceiling * 2).min(CAP);
            }
        }
    }

    #[test]
    fn a_fleet_spreads_over_the_whole_delay() {
        let tenth = |seed| {
            Backoff::new(BASE, CAP, fastrand::Rng::with_seed(seed))
                .nth(20)
                .unwrap_or_default()
        };
        let delays: Vec<Duration> = (0..1000).map(tenth).collect();
        for quarter in 0..4 {
            let range = CAP * quarter / 4..CAP * (quarter + 1) / 4;
            let share = delays.iter().filter(|delay| range.contains(delay)).count();
            assert!((200..300).contains(&share), "{share} of 1000 in {range:?}");
        }
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::new(BASE, CAP, fastrand::Rng::with_seed(1));
        backoff.by_ref().take(50).for_each(drop);
        backoff.reset();
        assert!(backoff.next() <= Some(BASE));
    }
}
