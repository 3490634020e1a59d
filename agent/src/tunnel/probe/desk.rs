//! The nonces of probes, where incoming channels can see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::exchange::Nonce;

/// How many nonces of probes that have ended are known. A probe that gave up may have sent its
/// nonce into a full queue, and the nonce must not reach sshd whenever it arrives.
const LATE: usize = 8;

/// After this time, no network delivers a nonce any more: TCP gives up before that (tcp(7),
/// `tcp_retries2`).
const FORGOTTEN: Duration = Duration::from_secs(1000);

/// The nonces of one session.
#[derive(Debug, Clone, Default)]
pub(in crate::tunnel) struct Desk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    nonces: Mutex<Nonces>,
    /// During the probe that is under way, a channel came and said nothing for a while.
    silent: AtomicBool,
}

#[derive(Debug, Default)]
struct Nonces {
    /// The probe that is under way.
    current: Option<Nonce>,
    /// Its nonce is on the way.
    sent: bool,
    /// Nonces that were sent and have not arrived, and since when.
    late: Vec<(Instant, Nonce)>,
}

/// The nonces that a channel may begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tunnel) struct Expected {
    nonces: Vec<Nonce>,
    /// A probe is under way: its nonce should come at once.
    pub(in crate::tunnel) soon: bool,
}

impl Expected {
    /// The nonce that these first bytes of a connection are.
    pub(in crate::tunnel) fn find(&self, bytes: &[u8]) -> Option<Nonce> {
        self.nonces.iter().find(|nonce| nonce.opens(bytes)).copied()
    }
}

impl Desk {
    /// A probe begins.
    pub(super) fn begin(&self, nonce: Nonce) {
        self.0.silent.store(false, Relaxed);
        let mut nonces = self.nonces();
        nonces.current = Some(nonce);
        nonces.sent = false;
    }

    /// The probe has a connection, and says its nonce.
    pub(super) fn sent(&self) {
        self.nonces().sent = true;
    }

    /// The probe ends.
    pub(super) fn end(&self) {
        let mut nonces = self.nonces();
        let current = nonces.current.take();
        if let (Some(nonce), true) = (current, nonces.sent) {
            if nonces.late.len() == LATE {
                nonces.late.remove(0);
            }
            nonces.late.push((Instant::now(), nonce));
        }
    }

    /// The nonces that a channel may begin with now; none, where no nonce is on its way.
    pub(in crate::tunnel) fn expected(&self) -> Option<Expected> {
        let mut nonces = self.nonces();
        nonces.late.retain(|(since, _)| since.elapsed() < FORGOTTEN);
        let late = nonces.late.iter().map(|(_, nonce)| nonce);
        let all: Vec<_> = late.chain(&nonces.current).copied().collect();
        (!all.is_empty()).then(|| Expected {
            nonces: all,
            soon: nonces.current.is_some(),
        })
    }

    /// This nonce has arrived: no other channel can begin with it.
    pub(in crate::tunnel) fn arrived(&self, nonce: Nonce) {
        let mut nonces = self.nonces();
        nonces.late.retain(|(_, late)| *late != nonce);
        nonces.current = nonces.current.filter(|current| *current != nonce);
    }

    /// A channel that came during a probe says nothing: it may be the probe, and late.
    pub(in crate::tunnel) fn saw_silence(&self) {
        self.0.silent.store(true, Relaxed);
    }

    /// Whether such a channel came since the probe began.
    pub(super) fn silence(&self) -> bool {
        self.0.silent.load(Relaxed)
    }

    fn nonces(&self) -> MutexGuard<'_, Nonces> {
        self.0.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
