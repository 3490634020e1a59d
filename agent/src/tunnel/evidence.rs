//! What users' traffic proves of a session's forward: a login through it has moved several KiB
//! each way, which no probe could do better.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::relay::channel::Moved;

/// How much a connection must have moved each way before it counts, in bytes. An SSH login has
/// then finished its key exchange, which takes full packets in both directions (an ML-KEM key
/// alone has 1184 bytes); a scanner that leaves after the banners has not.
const ENOUGH: u64 = 3 * 1024;

/// Bytes of a user that are no older than this are of now: a client confirms what it reads with
/// each 96 KiB or so, which takes 6 s at 128 kbit/s.
const FRESH: Duration = Duration::from_secs(15);

/// Shared by a session and its relays.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    last: Mutex<Last>,
    wanted: AtomicBool,
    came: Notify,
}

/// When the last byte of a user came.
#[derive(Debug, Default, Clone, Copy)]
struct Last {
    /// Of one who came the way that the forward is for.
    proof: Option<Instant>,
    /// Of anyone.
    traffic: Option<Instant>,
}

/// The verdict of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// It proves the forward.
    Proof,
    /// It would hold up a probe, and proves nothing: it comes from inside the proxy.
    Busy,
    /// There is none.
    None,
}

impl Evidence {
    /// A connection has taken bytes from its user, after it had moved this much. `proves` if it
    /// came the way that the forward is for.
    pub(super) fn note(&self, moved: Moved, proves: bool) {
        if moved.inward < ENOUGH || moved.outward < ENOUGH {
            return;
        }
        let now = Instant::now();
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.traffic = Some(now);
        if proves {
            last.proof = Some(now);
            if self.0.wanted.swap(false, Relaxed) {
                self.0.came.notify_one();
            }
        }
    }

    /// The verdict of the traffic since `since`, and of the last few seconds.
    pub(super) fn since(&self, since: Instant) -> Traffic {
        let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |at: Option<Instant>| at.is_some_and(|at| at > since || at.elapsed() < FRESH);
        if counts(last.proof) {
            Traffic::Proof
        } else if last.traffic.is_some_and(|at| at.elapsed() < FRESH) {
            Traffic::Busy
        } else {
            Traffic::None
        }
    }

    /// Asks to be told of the next proof.
    pub(super) fn want(&self) {
        self.0.wanted.store(true, Relaxed);
    }

    /// Waits for a proof that was asked for. Can be cancelled at any time.
    pub(super) async fn came(&self) {
        self.0.came.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Moved = Moved {
        inward: ENOUGH,
        outward: ENOUGH,
    };

    #[test]
    fn a_login_proves_and_a_scan_does_not() {
        let start = Instant::now();
        let evidence = Evidence::default();
        for (inward, outward) in [(0, 0), (ENOUGH, 40), (40, ENOUGH)] {
            evidence.note(Moved { inward, outward }, true);
            assert_eq!(evidence.since(start), Traffic::None);
        }
        evidence.note(LOGIN, false);
        assert_eq!(evidence.since(start), Traffic::Busy);
        evidence.note(LOGIN, true);
        assert_eq!(evidence.since(start), Traffic::Proof);
    }

    #[tokio::test]
    async fn a_proof_that_is_wanted_is_told_once() {
        let evidence = Evidence::default();
        evidence.note(LOGIN, true);
        let moment = Duration::from_millis(1);
        assert!(tokio::time::timeout(moment, evidence.came()).await.is_err());
        evidence.want();
        evidence.note(LOGIN, true);
        evidence.note(LOGIN, true);
        assert!(tokio::time::timeout(moment, evidence.came()).await.is_ok());
        assert!(tokio::time::timeout(moment, evidence.came()).await.is_err());
    }
}
