//! When the bridge asks again for what it did not get.

use std::time::Duration;

use tokio::time::Instant;

/// Between two attempts to listen: the first pause, doubling to the second.
const LISTEN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Between two attempts while another has the port. They cost nobody anything, and who takes the
/// other away wants ours in its place at once.
const TAKEN: Duration = Duration::from_secs(2);
/// The same after an accept for which the system had no descriptor or no memory.
const ACCEPT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Between two looks through another's listener. Each may start an `sshd -i`, so they are rare.
const PROVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Remembers failures in a row and when the next attempt is due.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    due: Option<Instant>,
    not_accepted: u32,
    accept_due: Option<Instant>,
    proofs: u32,
    proof_due: Option<Instant>,
}

impl Pace {
    /// When to ask again for the listener or its device, if one is missing.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Notes that the listener or its device is still missing.
    pub(super) fn not_yet(&mut self) {
        self.failures += 1;
        self.due = Some(Instant::now() + pause(LISTEN, self.failures));
    }

    /// Notes that another has the port.
    pub(super) fn taken(&mut self) {
        self.failures = 0;
        self.due = Some(Instant::now() + pause((TAKEN, TAKEN), 1));
    }

    /// Notes that something is to be done about the listener now.
    pub(super) fn at_once(&mut self) {
        self.due = Some(Instant::now());
    }

    /// Notes that nothing is missing.
    pub(super) fn well(&mut self) {
        self.failures = 0;
        self.due = None;
    }

    /// When to accept again, if not now.
    pub(super) fn accept_due(&self) -> Option<Instant> {
        self.accept_due
    }

    /// Notes an accept that failed; returns how many have in a row.
    pub(super) fn not_accepted(&mut self) -> u32 {
        self.not_accepted += 1;
        self.accept_due = Some(Instant::now() + pause(ACCEPT, self.not_accepted));
        self.not_accepted
    }

    /// Notes an accept that went well.
    pub(super) fn accepted(&mut self) {
        self.not_accepted = 0;
        self.accept_due = None;
    }

    /// Whether it is time to look through another's listener.
    pub(super) fn proof_is_due(&self) -> bool {
        self.proof_due.is_none_or(|due| due <= Instant::now())
    }

    /// Notes what such a look came to.
    pub(super) fn proven(&mut self, good: bool) {
        self.proofs = if good { 0 } else { self.proofs + 1 };
        let pause = if good {
            PROVE.1
        } else {
            pause(PROVE, self.proofs)
        };
        self.proof_due = Some(Instant::now() + pause);
    }
}

/// The pause after so many failures in a row, with a jitter of a quarter either way.
fn pause((first, most): (Duration, Duration), failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(most).mul_f64(0.75 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_doubles_to_its_cap(failures in 1_u32..) {
            for range in [LISTEN, ACCEPT, PROVE] {
                let exact = range.0.saturating_mul(1 << (failures - 1).min(10)).min(range.1);
                let pause = pause(range, failures);
                prop_assert!(pause >= exact.mul_f64(0.75) && pause <= exact.mul_f64(1.25));
            }
        }
    }
}
