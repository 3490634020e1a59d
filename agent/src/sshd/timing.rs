//! How often sshd is checked, and how long a check takes at most.

use std::time::Duration;

use tokio::time::Instant;

/// After this time without a word, the status says so. TCP wrappers hold a connection for 5 s
/// before they close it, which is another fault.
pub(super) const SILENT: Duration = Duration::from_secs(6);

/// When a check is given up: sshd ends a connection after its `LoginGraceTime` of 120 s by default
/// (sshd_config(5)).
pub(super) const PATIENCE: Duration = Duration::from_secs(130);

/// When to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// While nobody listens, which costs sshd nothing: the first pause, the longest, and the
    /// longest after [`Timing::hopeful`].
    pub(super) absent: (Duration, Duration, Duration),
    /// For how long an sshd that is not there is expected any moment.
    pub(super) hopeful: Duration,
    /// After an sshd that took the connection and did not introduce itself: the first pause, and
    /// the longest.
    pub(super) wrong: (Duration, Duration),
    /// After the first silent close by an sshd that was ready.
    pub(super) doubtful: Duration,
    /// Between two looks at the kernel's sockets, while all is well.
    pub(super) steady: Duration,
    /// Between two checks, while all is well and the kernel can't say whether sshd listens.
    pub(super) blind: Duration,
    /// From a check that found all well to one for a suspicion: at first, and the longest, with a
    /// factor of [`DOUBT`]. With these, needless suspicions make fewer than five checks in ten
    /// minutes, so that fail2ban, whose defaults are those, never bans the check.
    pub(super) suspicion: (Duration, Duration),
}

/// The factor of [`Timing::suspicion`].
pub(super) const DOUBT: u32 = 16;

impl Timing {
    pub(super) const DEFAULT: Self = Self {
        absent: (
            Duration::from_millis(100),
            Duration::from_millis(750),
            Duration::from_secs(5),
        ),
        hopeful: Duration::from_secs(600),
        wrong: (Duration::from_secs(1), Duration::from_secs(30)),
        doubtful: Duration::from_secs(5),
        steady: Duration::from_secs(60),
        blind: Duration::from_secs(3600),
        suspicion: (Duration::from_secs(2), Duration::from_secs(512)),
    };
}

/// The pauses between two dials while nobody listens.
#[derive(Debug)]
pub(super) struct Absence {
    timing: Timing,
    began: Instant,
    next: Duration,
}

impl Absence {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            began: Instant::now(),
            next: timing.absent.0,
        }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let (_, soon, late) = self.timing.absent;
        let longest = if self.began.elapsed() < self.timing.hopeful {
            soon
        } else {
            late
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_sshd_is_looked_for_often_at_first() {
        let mut absence = Absence::new(Timing::DEFAULT);
        let pauses: Vec<_> = (0..10).map(|_| absence.pause().as_millis()).collect();
        assert_eq!(pauses[..5], [100, 200, 400, 750, 750]);
        absence.timing.hopeful = Duration::ZERO;
        let last = (0..10).map(|_| absence.pause()).last();
        assert_eq!(last, Some(Duration::from_secs(5)));
    }

    /// The defaults of fail2ban: `maxretry = 5`, `findtime = 10m`.
    #[test]
    fn needless_suspicions_never_get_the_check_banned() {
        let (mut pause, longest) = Timing::DEFAULT.suspicion;
        // The check at the start, and then one as soon as it may be made.
        let (mut at, mut checks) = (Duration::ZERO, 0);
        while at <= Duration::from_secs(600) {
            checks += 1;
            at += pause;
            pause = (pause * DOUBT).min(longest);
        }
        assert!(checks < 5, "{checks} checks");
    }
}
