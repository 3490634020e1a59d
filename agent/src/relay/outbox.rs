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
    /// In the wire's queue.
    queued: AtomicUsize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self(Arc::new(Shared {
            room: Semaphore::new(ROOM),
            waiting: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
        }))
    }
}

impl Outbox {
    /// Waits for its turn to send `bytes`, of which at most [`ROOM`] count. Can be cancelled at
    /// any time, and loses its turn then.
    pub async fn take(&self, bytes: usize) -> Share<'_> {
        let bytes = bytes.min(ROOM);
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        // It is never closed.
        if let Ok(turn) = self.0.room.acquire_many(count).await {
            turn.forget();
            self.0.waiting.fetch_add(bytes, Relaxed);
        }
        Share {
            outbox: self,
            bytes,
        }
    }

    /// The wire has written so many bytes, and `left` are still in its queue.
    pub fn written(&self, bytes: usize, left: usize) {
        self.queue(left);
        // Encrypted, bytes are a few more than were taken; those of a channel that was closed
        // meanwhile are never written. Where nothing waits, the estimate starts over.
        self.free(if left == 0 { usize::MAX } else { bytes });
    }

    /// So many bytes are in the wire's queue.
    pub fn queue(&self, bytes: usize) {
        self.0.queued.store(bytes, Relaxed);
    }

    /// How many bytes are in the wire's queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued.load(Relaxed)
    }

    fn free(&self, bytes: usize) {
        let free = bytes.min(self.0.waiting.load(Relaxed));
        self.0.waiting.fetch_sub(free, Relaxed);
        self.0.room.add_permits(free);
    }
}

/// A relay's part of the room. It is given back when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Share<'a> {
    outbox: &'a Outbox,
    bytes: usize,
}

impl Share<'_> {
    /// The bytes are on their way to the wire, which frees the room.
    pub fn sent(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.outbox.free(self.bytes);
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
        outbox.take(ROOM).await.sent();
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
        outbox.written(1, 1);
        timeout(MOMENT, outbox.take(1)).await.unwrap().sent();
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_written_holds_nobody_up_for_ever() {
        let outbox = Outbox::default();
        outbox.take(10 * ROOM).await.sent();
        outbox.written(5, 0);
        timeout(MOMENT, outbox.take(ROOM)).await.unwrap().sent();
        // It never has more room than at first.
        outbox.written(10 * ROOM, 1);
        timeout(MOMENT, outbox.take(ROOM)).await.unwrap().sent();
        assert!(timeout(MOMENT, outbox.take(1)).await.is_err());
        // A relay that can't send gives its share back.
        outbox.written(ROOM, 1);
        drop(outbox.take(ROOM).await);
        assert!(timeout(MOMENT, outbox.take(ROOM)).await.is_ok());
    }

    /// A transfer that takes all it gets, and a keystroke beside it.
    #[tokio::test(start_paused = true)]
    async fn a_keystroke_has_its_turn_after_one_packet_of_each_transfer() {
        let outbox = Outbox::default();
        let sent = Arc::new(Mutex::new(Vec::new()));
        outbox.take(ROOM).await.sent();
        for (name, bytes) in [("transfer", ROOM), ("key", 1), ("transfer", ROOM)] {
            let (outbox, sent) = (outbox.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                loop {
                    outbox.take(bytes).await.sent();
                    sent.lock().unwrap().push(name);
                }
            });
            yield_now().await;
        }
        for _ in 0..20 {
            outbox.written(ROOM, 1);
            yield_now().await;
            yield_now().await;
        }
        let sent = sent.lock().unwrap().clone();
        let keys = sent.iter().filter(|name| **name == "key").count();
        assert!(keys >= 6, "{sent:?}");
    }
}
