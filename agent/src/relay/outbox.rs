//! The queue of bytes to be sent on a session's connection.
//!
//! The SSH library does not read while it waits for its own writes. So the wire takes all that it
//! is given, and the relays hold back instead: each waits here for its turn before it reads more
//! from its service. Turns are in the order of arrival, so that a keystroke waits for one packet
//! of each transfer and no longer, and on a slow line the queue stays short.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

/// How many bytes may wait before relays hold back: two packets of a relay. At 128 kbit/s they take
/// 4 s, and at a gigabit per second 0.5 ms.
const ROOM: usize = 64 * 1024;

/// The bytes that wait, shared by the wire and all relays of one session.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Semaphore,
    /// Taken by relays and not written yet; no more than an estimate.
    waiting: AtomicUsize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self(Arc::new(Shared {
            room: Semaphore::new(ROOM),
            waiting: AtomicUsize::new(0),
        }))
    }
}

impl Outbox {
    /// Waits for its turn to send `bytes`, of which at most [`ROOM`] count. Can be cancelled at
    /// any time, and loses its turn then.
    pub async fn take(&self, bytes: usize) {
        let bytes = bytes.min(ROOM);
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        // It is never closed.
        if let Ok(turn) = self.0.room.acquire_many(count).await {
            turn.forget();
            self.0.waiting.fetch_add(bytes, Relaxed);
        }
    }

    /// The wire has written so many bytes, and `all` that it had.
    pub fn written(&self, bytes: usize, all: bool) {
        // Encrypted, bytes are a few more than were taken; those of a channel that was closed
        // meanwhile are never written. Where nothing waits, the estimate starts over.
        let waiting = self.0.waiting.load(Relaxed);
        let free = if all { waiting } else { bytes.min(waiting) };
        self.0.waiting.fetch_sub(free, Relaxed);
        self.0.room.add_permits(free);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::yield_now;
    use tokio::time::{Duration, timeout};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn relays_wait_while_it_is_full_and_go_on_as_it_is_written() {
        let outbox = Outbox::default();
        outbox.take(ROOM).await;
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
        outbox.written(1, false);
        assert!(timeout(MOMENT, outbox.take(1)).await.is_ok());
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_written_holds_nobody_up_for_ever() {
        let outbox = Outbox::default();
        outbox.take(10 * ROOM).await;
        outbox.written(5, true);
        assert!(timeout(MOMENT, outbox.take(ROOM)).await.is_ok());
        // It never has more room than at first.
        outbox.written(10 * ROOM, false);
        assert!(timeout(MOMENT, outbox.take(ROOM)).await.is_ok());
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
    }

    /// A transfer that takes all it gets, and a keystroke beside it.
    #[tokio::test(start_paused = true)]
    async fn a_keystroke_has_its_turn_after_one_packet_of_each_transfer() {
        let outbox = Outbox::default();
        let sent = Arc::new(Mutex::new(Vec::new()));
        outbox.take(ROOM).await;
        for (name, bytes) in [("transfer", ROOM), ("key", 1), ("transfer", ROOM)] {
            let (outbox, sent) = (outbox.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                loop {
                    outbox.take(bytes).await;
                    sent.lock().unwrap().push(name);
                }
            });
            yield_now().await;
        }
        for _ in 0..20 {
            outbox.written(ROOM, false);
            yield_now().await;
            yield_now().await;
        }
        let sent = sent.lock().unwrap().clone();
        let keys = sent.iter().filter(|name| **name == "key").count();
        assert!(keys >= 6, "{sent:?}");
    }
}
