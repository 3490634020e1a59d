//! When to tell it. Pure: time and chance come in.

use std::time::{Duration, Instant};

/// From a change to telling it: changes come in groups.
const SETTLE: Duration = Duration::from_secs(1);

/// The least time between two attempts, however often things change.
const DISTANCE: Duration = Duration::from_secs(10);

/// After the first failure in a row; doubles from there.
const RETRY: Duration = Duration::from_secs(5);

/// The most that it doubles to.
const CAP: Duration = Duration::from_secs(600);

/// The same where a person has to do something first.
const FINAL: Duration = Duration::from_secs(300);
const FINAL_CAP: Duration = Duration::from_secs(3600);

/// Tells each thing once, and what can't be told again later.
#[derive(Debug)]
pub(super) struct Pace<M> {
    /// What is true, if they don't know it yet.
    news: Option<M>,
    /// What they know.
    known: Option<M>,
    due: Option<Instant>,
    /// When the next attempt is allowed.
    next: Option<Instant>,
    failures: u32,
}

impl<M> Default for Pace<M> {
    fn default() -> Self {
        Self {
            news: None,
            known: None,
            due: None,
            next: None,
            failures: 0,
        }
    }
}

impl<M: PartialEq> Pace<M> {
    /// This is true now.
    pub(super) fn offer(&mut self, now: Instant, message: M) {
        if self.known.as_ref() == Some(&message) {
            self.news = None;
            self.due = None;
        } else if self.news.as_ref() != Some(&message) {
            self.news = Some(message);
            let settled = now + SETTLE;
            self.due = Some(self.next.map_or(settled, |next| next.max(settled)));
        }
    }

    /// When there is something to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be told now. The answer has to follow.
    pub(super) fn take(&mut self, now: Instant) -> Option<M> {
        self.due.take_if(|due| *due <= now)?;
        self.news.take()
    }

    /// What came of it; of a failure, whether only a person can change that.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        message: M,
        answer: Result<(), bool>,
        chance: f64,
    ) {
        match answer {
            Ok(()) => {
                self.failures = 0;
                self.known = Some(message);
                self.next = Some(now + DISTANCE);
            }
            Err(is_final) => {
                // They may have taken some of it.
                self.known = None;
                let (first, cap) = if is_final {
                    (FINAL, FINAL_CAP)
                } else {
                    (RETRY, CAP)
                };
                let doubled = first.saturating_mul(1 << self.failures.min(16)).min(cap);
                self.failures = self.failures.saturating_add(1);
                let wait = doubled.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0);
                let next = now + wait;
                self.next = Some(next.max(now + DISTANCE));
                self.news.get_or_insert(message);
                self.due = self.next;
            }
        }
    }
}

#[cfg(test)]
mod tests;
