//! The signs of life of a connection: what arrived on it, and what the kernel knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::Socket;
use tokio::time::Instant;

use super::tcp::Progress;
use crate::relay::outbox::Outbox;

/// The kernel's view of a connection.
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) socket: Option<Socket>,
    pub(super) outbox: Outbox,
}

impl Vitals {
    /// How it does now; none, where the kernel does not tell.
    pub(super) fn now(&self) -> Option<Progress> {
        let mut now = self.socket.as_ref().and_then(Progress::of)?;
        let queued = u64::try_from(self.outbox.queued()).unwrap_or(u64::MAX);
        now.waiting = now.waiting.saturating_add(queued);
        now.delivered &= queued == 0;
        Some(now)
    }
}

/// When bytes last arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    start: Instant,
    /// Milliseconds after the start.
    last: Arc<AtomicU64>,
}

impl Arrivals {
    /// None yet; they count from now.
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Some have arrived.
    pub(super) fn note(&self) {
        let time = u64::try_from(self.start.elapsed().as_millis());
        self.last.store(time.unwrap_or(u64::MAX), Relaxed);
    }

    /// When that last was; the start, before there were any.
    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Relaxed))
    }
}
