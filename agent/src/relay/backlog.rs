//! What waits in this program for services that do not read, and when that is too much.
//!
//! A session carries many channels over one connection, and russh opens a channel's window again
//! on receipt (its issue 770): a sender can be held back only by leaving the whole session unread,
//! which stops all the others. So what arrives is taken in, up to a bound; then a channel that is
//! alone, or whose service does read, holds its sender back that way, and any other is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How many bytes one channel may have waiting without a question.
const OWN: usize = 4 << 20;

/// How many it may have while others share the session.
const MOST: usize = 12 << 20;

/// How many all channels of a session may have; over it, those with more than [`SHARE`] are in
/// question.
const ALL: usize = 16 << 20;
const SHARE: usize = 64 << 10;

/// A service that will have read what waits for it in this time, in seconds, is waited for: the
/// others are held up for moments only.
const READS: f64 = 1.5;

/// The same for one that has no more than [`OWN`] waiting, when it is too much in all: of many
/// that share a processor, each is slow.
const READS_SHARE: f64 = 8.0;

/// How long a service is watched before its rate says anything: on a busy machine, one that reads
/// well stands still for a while. As long the session may be held up.
pub(super) const JUDGED: Duration = Duration::from_millis(200);

/// After this it is watched afresh: what it read long ago says nothing of now.
const AFRESH: Duration = Duration::from_secs(1);

/// The bytes that wait in all channels of one session.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<Totals>);

#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicUsize,
    channels: AtomicUsize,
}

/// What is to be done about a channel's next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Take them in.
    Take,
    /// Leave them where they are, and the session with them.
    Hold,
    /// End the channel.
    GiveUp,
}

/// One channel's part; it is taken back when this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    all: Backlog,
    bytes: usize,
    /// Since when the service is watched, and how much it had read by then; it is not while there
    /// is less than [`SHARE`].
    watched: Option<(Instant, u64)>,
}

impl Backlog {
    pub(super) fn part(&self) -> Part {
        self.0.channels.fetch_add(1, Relaxed);
        Part {
            all: self.clone(),
            bytes: 0,
            watched: None,
        }
    }
}

impl Part {
    /// So many bytes wait now.
    pub(super) fn set(&mut self, bytes: usize) {
        let totals = &self.all.0;
        totals.bytes.fetch_add(bytes, Relaxed);
        totals.bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// What follows; `read` is how many bytes the service has read in its life.
    pub(super) fn judge(&mut self, now: Instant, read: u64) -> Verdict {
        if self.bytes <= SHARE {
            self.watched = None;
            return Verdict::Take;
        }
        let (since, before) = *self.watched.get_or_insert((now, read));
        let time = now.saturating_duration_since(since);
        if time >= AFRESH {
            self.watched = Some((now, read));
        }
        let totals = &self.all.0;
        let crowded = totals.bytes.load(Relaxed) > ALL;
        let alone = totals.channels.load(Relaxed) == 1;
        if !crowded && self.bytes <= if alone { OWN } else { MOST } {
            return Verdict::Take;
        }
        if alone || time < JUDGED {
            return Verdict::Hold;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let (rate, waits) = (
            (read - before) as f64 / time.as_secs_f64(),
            self.bytes as f64,
        );
        let within = if self.bytes > OWN { READS } else { READS_SHARE };
        if rate * within < waits {
            Verdict::GiveUp
        } else {
            Verdict::Hold
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
        self.all.0.channels.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_alone_is_held_back_and_never_given_up() {
        let mut part = Backlog::default().part();
        let now = Instant::now();
        part.set(OWN);
        assert_eq!(part.judge(now, 0), Verdict::Take);
        part.set(OWN + 1);
        assert_eq!(part.judge(now, 0), Verdict::Hold);
        part.set(MOST + 1);
        assert_eq!(part.judge(now + Duration::from_secs(60), 0), Verdict::Hold);
    }

    #[test]
    fn beside_others_one_that_does_not_read_is_given_up_and_one_that_does_is_not() {
        let all = Backlog::default();
        let _other = all.part();
        let second = Duration::from_secs(1);
        for (read, verdict) in [(1 << 20, Verdict::GiveUp), (64 << 20, Verdict::Hold)] {
            let mut part = all.part();
            let start = Instant::now();
            part.set(OWN + 1);
            assert_eq!(part.judge(start, 1000), Verdict::Take);
            part.set(MOST + 1);
            assert_eq!(part.judge(start + second, 1000 + read), verdict);
            part.set(0);
            assert_eq!(part.judge(start + 2 * second, 1000 + read), Verdict::Take);
        }
    }

    #[test]
    fn many_that_read_well_are_held_back_when_they_are_too_much_together() {
        let all = Backlog::default();
        let now = Instant::now();
        let mut parts: Vec<_> = (0..5).map(|_| all.part()).collect();
        for part in &mut parts {
            part.set(OWN);
        }
        let read = 100 << 20;
        assert_eq!(parts[0].judge(now, read), Verdict::Hold);
        let later = read + (1 << 20);
        assert_eq!(parts[0].judge(now + JUDGED, later), Verdict::Hold);
    }

    #[test]
    fn many_that_do_not_read_are_given_up_once_they_are_too_much_together() {
        let all = Backlog::default();
        let now = Instant::now();
        let mut parts: Vec<_> = (0..100).map(|_| all.part()).collect();
        for part in &mut parts {
            part.set(ALL / 100);
            assert_eq!(part.judge(now, 0), Verdict::Take);
        }
        let mut idle = all.part();
        parts[0].set(ALL / 100 + SHARE);
        assert_eq!(parts[0].judge(now, 0), Verdict::Hold);
        assert_eq!(parts[0].judge(now + JUDGED, 0), Verdict::GiveUp);
        assert_eq!(idle.judge(now, 0), Verdict::Take);
        drop(parts);
        idle.set(OWN);
        assert_eq!(idle.judge(now, 0), Verdict::Take);
    }
}
