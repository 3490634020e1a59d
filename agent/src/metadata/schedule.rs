//! When to look again. Pure: time and chance come in.

use std::time::Duration;

/// For how long after its start the agent looks more often: services that fill in late.
const YOUNG: Duration = Duration::from_secs(120);

/// Between two rounds when all is well.
const SLOW: Duration = Duration::from_secs(300);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A document was read.
    Found,
    /// The same, but a source before it failed, which may have another.
    FoundBehindFailure,
    /// All sources answered that there is none.
    Absent,
    /// Some source failed.
    Failed,
}

/// The longest that a source's word is not listened to, after some that led to nothing.
const DEAF: u64 = 60;

/// The failures in a row, and whether there ever was a document.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    failures: u32,
    ever_found: bool,
    /// Words of sources in a row that led to nothing.
    hollow: u32,
}

impl Schedule {
    /// How long to wait after a round that ended like this, `age` after the start.
    ///
    /// `chance` is from 0 to 1, and keeps a thousand guests from asking in step.
    pub(super) fn after(&mut self, outcome: Outcome, age: Duration, chance: f64) -> Duration {
        self.failures = match outcome {
            Outcome::Failed | Outcome::FoundBehindFailure => self.failures.saturating_add(1),
            Outcome::Found | Outcome::Absent => 0,
        };
        self.ever_found |= matches!(outcome, Outcome::Found | Outcome::FoundBehindFailure);
        let young = age < YOUNG;
        let plain = match outcome {
            Outcome::Found => SLOW,
            // A guest that boots on a busy host may have been too slow to read a file. What stays
            // wrong is looked at as seldom as what is right.
            Outcome::FoundBehindFailure => self.doubled(5, SLOW.as_secs()),
            Outcome::Absent if young => Duration::from_secs(10),
            Outcome::Absent => SLOW,
            // With a document in force there is no hurry; without one a boot may wait for this,
            // but a machine that never had a service should not be woken for it for ever.
            Outcome::Failed if self.ever_found => self.doubled(5, 60),
            Outcome::Failed => self.doubled(1, if young { 5 } else { 60 }),
        };
        plain.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// A source said that it has something else, and there was something else, or there was not.
    pub(super) fn word(&mut self, was_true: bool) {
        self.hollow = if was_true {
            0
        } else {
            self.hollow.saturating_add(1)
        };
    }

    /// For how long not to listen to the next word: one that says so all the time would have the
    /// sources read all the time.
    pub(super) fn before_word(&self) -> Duration {
        match self.hollow {
            0 => Duration::ZERO,
            count => doubled(1, count, DEAF),
        }
    }

    /// `first` seconds after the first failure in a row, twice as long after each, up to `cap`.
    fn doubled(&self, first: u64, cap: u64) -> Duration {
        doubled(first, self.failures, cap)
    }
}

/// `first` seconds for a count of one, twice as long for each more, up to `cap`.
fn doubled(first: u64, count: u32, cap: u64) -> Duration {
    let factor = 1_u64 << count.saturating_sub(1).min(16);
    Duration::from_secs(first.saturating_mul(factor).min(cap))
}

#[cfg(test)]
mod tests;
