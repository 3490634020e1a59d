//! From when until when a certificate lets its key log in. Pure: the time comes in.

use std::fmt;
use std::time::{Duration, SystemTime};

use russh::keys::ssh_key::Certificate;

use crate::explain::Explain;

/// The last second with a year of four digits, which RFC 3339 can write. A certificate that ends
/// later is valid for ever.
const LAST: u64 = 253_402_300_799;

/// The share of its life from which on a certificate is about to end: the last fifth.
const LAST_SHARE: u32 = 5;

/// The same for a certificate without a beginning (`ssh-keygen -V always:..`).
const LAST_DAYS: Duration = Duration::from_secs(30 * 86_400);

/// The span of time in which a certificate is valid, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Null without a beginning.
    pub from: Option<SystemTime>,
    /// The first moment at which it is not valid any more; null for ever.
    pub until: Option<SystemTime>,
}

/// How a certificate stands at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its beginning is still to come.
    Early,
    /// Valid.
    Valid,
    /// Valid, in the last fifth of its life.
    Ending,
    /// Over.
    Expired,
}

impl Validity {
    /// The period in which the certificate is valid.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Self {
        let time = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (from, until) = (certificate.valid_after(), certificate.valid_before());
        Self {
            from: (from > 0).then(|| time(from.min(LAST))),
            until: (until <= LAST).then(|| time(until)),
        }
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> Phase {
        if self.until.is_some_and(|until| now >= until) {
            Phase::Expired
        } else if self.from.is_some_and(|from| now < from) {
            Phase::Early
        } else if self.warn_from().is_some_and(|from| now >= from) {
            Phase::Ending
        } else {
            Phase::Valid
        }
    }

    /// When that changes next.
    #[must_use]
    pub fn next(&self, now: SystemTime) -> Option<SystemTime> {
        let changes = [self.from, self.warn_from(), self.until];
        changes.into_iter().flatten().filter(|at| *at > now).min()
    }

    fn warn_from(&self) -> Option<SystemTime> {
        let until = self.until?;
        let last = match self.from {
            Some(from) => until.duration_since(from).unwrap_or_default() / LAST_SHARE,
            None => LAST_DAYS,
        };
        until.checked_sub(last)
    }
}

/// A certificate that does not let its key log in, or soon will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapse {
    key_id: String,
    validity: Validity,
    phase: Phase,
}

impl Lapse {
    /// The warning for the certificate at `now`; none for one that is valid for long.
    #[must_use]
    pub fn of(certificate: &Certificate, now: SystemTime) -> Option<Self> {
        let validity = Validity::of(certificate);
        let phase = validity.at(now);
        (phase != Phase::Valid).then(|| Self {
            key_id: certificate.key_id().to_owned(),
            validity,
            phase,
        })
    }

    /// Whether it can't log in with this certificate at all.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        self.phase != Phase::Ending
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Expired
    }
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Validity { from, until } = self.validity;
        let (word, time) = match self.phase {
            Phase::Early => ("is not valid before", from),
            Phase::Valid => ("is valid until", until),
            Phase::Ending => ("expires at", until),
            Phase::Expired => ("expired at", until),
        };
        write!(f, "the certificate {:?} {word}", self.key_id)?;
        match time {
            Some(time) => write!(f, " {}", humantime::format_rfc3339_seconds(time)),
            None => write!(f, " any time"),
        }
    }
}

impl std::error::Error for Lapse {}

impl Explain for Lapse {
    fn code(&self) -> &'static str {
        match self.phase {
            Phase::Early => "certificate-not-yet-valid",
            Phase::Valid | Phase::Ending => "certificate-expiring",
            Phase::Expired => "certificate-expired",
        }
    }

    fn advice(&self) -> String {
        match self.phase {
            Phase::Early => {
                "Check this guest's clock (timedatectl); otherwise sign the key with a span that \
                 has begun (ssh-keygen -V)."
            }
            Phase::Valid | Phase::Ending | Phase::Expired => {
                "Sign the key again (ssh-keygen -s CA -I NAME -n USER -V SPAN KEY.pub) and put the \
                 new certificate into the tunnel document. The metadata is read again before a \
                 login with an expired one."
            }
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_certificate_is_about_to_end_in_the_last_fifth_of_its_life() {
        let span = |from: Option<u64>, until: Option<u64>| Validity {
            from: from.map(at),
            until: until.map(at),
        };
        let day = 86_400;
        for (validity, now, expected) in [
            (span(Some(1000), Some(2000)), 999, Phase::Early),
            (span(Some(1000), Some(2000)), 1000, Phase::Valid),
            (span(Some(1000), Some(2000)), 1799, Phase::Valid),
            (span(Some(1000), Some(2000)), 1800, Phase::Ending),
            (span(Some(1000), Some(2000)), 1999, Phase::Ending),
            (span(Some(1000), Some(2000)), 2000, Phase::Expired),
            (span(Some(1000), None), u64::from(u32::MAX), Phase::Valid),
            (span(None, None), 0, Phase::Valid),
            (span(None, Some(100 * day)), 69 * day, Phase::Valid),
            (span(None, Some(100 * day)), 71 * day, Phase::Ending),
            (span(None, Some(day)), 0, Phase::Ending),
            // The wrong way round: never valid.
            (span(Some(2000), Some(1000)), 500, Phase::Early),
            (span(Some(2000), Some(1000)), 1500, Phase::Expired),
        ] {
            assert_eq!(validity.at(at(now)), expected, "{validity:?} at {now}");
        }
    }

    #[test]
    fn each_change_is_foretold() {
        let validity = Validity {
            from: Some(at(1000)),
            until: Some(at(2000)),
        };
        for (now, next) in [
            (0, Some(1000)),
            (1000, Some(1800)),
            (1800, Some(2000)),
            (2000, None),
        ] {
            assert_eq!(validity.next(at(now)), next.map(at), "at {now}");
        }
    }
}
