//! When to tell news. Pure: the time comes in.

use std::time::{Duration, Instant};

/// From the first sign of a burst to the news: a link, its address and its route come one after
/// the other.
const SETTLE: Duration = Duration::from_secs(1);

/// The longest distance between two of the same kind, as from a link that flaps.
const LONGEST: Duration = Duration::from_secs(30);

/// A source that has been quiet for so long is heard at once again.
const QUIET: Duration = Duration::from_secs(60);

/// Makes one piece of news of a burst, and fewer of bursts that go on.
#[derive(Debug)]
pub(super) struct Pace {
    /// From the first sign of a burst to the news.
    settle: Duration,
    due: Option<Instant>,
    last: Option<Instant>,
    /// The least distance from the last one.
    distance: Duration,
}

impl Default for Pace {
    /// News when a burst has settled.
    fn default() -> Self {
        Self {
            settle: SETTLE,
            due: None,
            last: None,
            distance: SETTLE,
        }
    }
}

impl Pace {
    /// News at the first sign, where one sign is all there is. The distances are the same.
    pub(super) fn at_once() -> Self {
        Self {
            settle: Duration::ZERO,
            ..Self::default()
        }
    }

    /// Something happened.
    pub(super) fn heard(&mut self, now: Instant) {
        let allowed = self.last.map(|last| last + self.distance);
        let settled = now + self.settle;
        self.due
            .get_or_insert(allowed.map_or(settled, |allowed| allowed.max(settled)));
    }

    /// When to tell it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was told.
    pub(super) fn told(&mut self, now: Instant) {
        let quiet = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        self.distance = if quiet {
            SETTLE
        } else {
            (self.distance * 2).min(LONGEST)
        };
        self.last = Some(now);
        self.due = None;
    }

    /// It was nothing after all.
    pub(super) fn dropped(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_told_once_a_second_after_it_began() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        for step in 0..9 {
            pace.heard(start + step * Duration::from_millis(100));
        }
        assert_eq!(pace.due(), Some(start + SETTLE));
        pace.told(start + SETTLE);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_is_nothing_after_all_costs_no_later_news() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for step in 0..100 {
            pace.heard(start + step * SETTLE);
            pace.dropped();
        }
        let now = start + 100 * SETTLE;
        pace.heard(now);
        assert_eq!(pace.due(), Some(now + SETTLE));
    }

    /// A metadata service is asked after each step of the clock, and a clock may be stepped again
    /// and again.
    #[test]
    fn the_first_step_of_the_clock_is_told_at_once_and_steps_without_end_each_half_minute() {
        let start = Instant::now();
        let mut pace = Pace::at_once();
        let mut told = Vec::new();
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            pace.heard(now);
            if pace.due().is_some_and(|due| due <= now) {
                pace.told(now);
                told.push(second);
            }
        }
        assert_eq!(told[..7], [0, 1, 3, 7, 15, 31, 61]);
        assert_eq!(told.len(), 7 + (599 - 61) / 30);
        // A quiet minute, and the next one is told at once again.
        let later = start + Duration::from_secs(600) + QUIET;
        pace.dropped();
        pace.heard(later);
        assert_eq!(pace.due(), Some(later));
    }

    proptest! {
        /// Whatever happens: told within the longest distance, never faster than once a second,
        /// and after a quiet minute at once.
        #[test]
        fn bounds(gaps in proptest::collection::vec(0_u64..100_000, 1..100)) {
            let mut pace = Pace::default();
            let mut now = Instant::now();
            let mut last: Option<Instant> = None;
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Some(due) = pace.due().filter(|due| *due <= now) {
                    if let Some(last) = last {
                        prop_assert!(due.duration_since(last) >= SETTLE);
                    }
                    pace.told(due);
                    last = Some(due);
                }
                pace.heard(now);
                let due = pace.due().unwrap();
                let quiet = last.is_none_or(|last| now.duration_since(last) >= LONGEST);
                prop_assert!(due <= now + LONGEST.max(SETTLE));
                prop_assert!(!quiet || due <= now + SETTLE);
            }
        }
    }
}
