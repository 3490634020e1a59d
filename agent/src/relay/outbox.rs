//! What waits to be sent on a session's connection.
//!
//! The SSH library does not read while it waits for its own writes. So the wire takes all that it
//! is given, and the relays hold back instead: each reserves room here before it reads more from
//! its service. On a slow line the queue stays short, so that keystrokes and keepalives of other
//! channels do not wait behind a transfer for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

/// How many bytes may wait before relays hold back. A relay sends up to 32 KiB at once, and at a
/// gigabit per second the library takes that in 0.3 ms.
const FULL: usize = 128 * 1024;

/// The bytes that wait, shared by the wire and all relays of one session.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Reserved by relays and not written yet; no more than an estimate.
    waiting: AtomicUsize,
    room: Notify,
}

impl Outbox {
    /// Waits until there is room. Can be cancelled at any time.
    pub async fn room(&self) {
        loop {
            let room = self.0.room.notified();
            if self.0.waiting.load(Relaxed) < FULL {
                return;
            }
            room.await;
        }
    }

    /// A relay is about to send so many bytes.
    pub fn reserve(&self, bytes: usize) {
        self.0.waiting.fetch_add(bytes, Relaxed);
    }

    /// The wire has written so many bytes, and `all` that it had.
    pub fn written(&self, bytes: usize, all: bool) {
        // Encrypted, bytes are a few more than were reserved; those of a channel that was closed
        // meanwhile are never written. Where nothing waits, the estimate starts over.
        let before = self.0.waiting.load(Relaxed);
        let after = if all { 0 } else { before.saturating_sub(bytes) };
        self.0.waiting.store(after, Relaxed);
        if after < FULL {
            self.0.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn relays_wait_while_it_is_full_and_go_on_as_it_is_written() {
        let outbox = Outbox::default();
        outbox.reserve(FULL - 1);
        assert!(timeout(MOMENT, outbox.room()).await.is_ok());
        outbox.reserve(2);
        assert!(timeout(MOMENT, outbox.room()).await.is_err());
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.room().await }
        });
        tokio::task::yield_now().await;
        outbox.written(2, false);
        assert!(timeout(MOMENT, waiting).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_written_holds_nobody_up_for_ever() {
        let outbox = Outbox::default();
        outbox.reserve(10 * FULL);
        outbox.written(5, true);
        assert!(timeout(MOMENT, outbox.room()).await.is_ok());
    }
}
