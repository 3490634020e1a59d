//! The buffer that all connections of a thread share, and how much of it one may fill at a time.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// The size of the buffer, and the most that is kept aside for a blocked peer, in bytes.
pub(super) const BUFFER: usize = 256 * 1024;

/// What is moved in one go and is no keystroke, in bytes. Who moves more takes turns.
pub(super) const BULK: u64 = 16 * 1024;

/// How much of the buffer is used during a dialogue of others, in bytes, and how long after a word
/// of it. Measured beside eight bulk connections, seven rounds: a keystroke's echo takes 1.15 times
/// as long as alone in place of 2.1 times. Always used, it would cost a quarter of the throughput.
const POLITE: usize = 64 * 1024;
const DIALOGUE: Duration = Duration::from_millis(50);

/// Whose turn it is to move much: one direction between two looks at all sockets, so that a
/// keystroke waits for one turn at most, and not for those of all the others. Measured with
/// eight bulk connections: a keystroke's round trip of 0.5 ms in place of 6, nothing moved slower.
static TURN: Semaphore = Semaphore::const_new(1);

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
    /// When a keystroke, or another word of a dialogue, last passed.
    static KEY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The least that is asked for, in bytes, and by how much more each time that all was taken.
const STEP: usize = 32 * 1024;

/// One direction's part in it.
#[derive(Debug)]
pub(super) struct Turn {
    /// It moved much when it last did.
    bulk: bool,
    /// What its writer is likely to take at once, in bytes. More is copied once more, to be
    /// kept aside: with that, a hundred downloads were a fifth slower.
    most: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            bulk: false,
            most: BUFFER,
        }
    }
}

impl Turn {
    /// Waits until it may move more.
    pub(super) async fn wait(&self) {
        if self.bulk {
            let _turn = TURN.acquire().await;
            tokio::task::yield_now().await;
        }
    }

    /// Moves something through the buffer.
    pub(super) fn with_buffer<T>(&self, r#move: impl FnOnce(&mut [u8]) -> T) -> T {
        SHARED.with_borrow_mut(|buffer| {
            let dialogue = || KEY.get().is_some_and(|key| key.elapsed() < DIALOGUE);
            let most = if self.bulk && dialogue() {
                self.most.min(POLITE)
            } else {
                self.most
            };
            r#move(buffer.get_mut(..most).unwrap_or_default())
        })
    }

    /// So many bytes were moved in one go, and then the writer may have been `blocked`. Says
    /// whether others had to wait for it.
    pub(super) fn moved(&mut self, bytes: u64, blocked: bool) -> bool {
        self.most = if blocked {
            usize::try_from(bytes).unwrap_or(BUFFER).clamp(STEP, BUFFER)
        } else {
            (self.most + STEP).min(BUFFER)
        };
        let bulk = bytes >= BULK;
        // The end of a long transfer is no keystroke.
        if !bulk && !self.bulk && bytes > 0 {
            KEY.set(Some(Instant::now()));
        }
        self.bulk = bulk;
        bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u64 = 1 << 20;

    fn most(turn: &Turn) -> usize {
        turn.with_buffer(|buffer| buffer.len())
    }

    #[test]
    fn who_moves_much_takes_less_during_a_dialogue_and_all_after_it() {
        let (mut bulk, mut key) = (Turn::default(), Turn::default());
        assert!(bulk.moved(PLENTY, false));
        assert_eq!(most(&bulk), BUFFER);
        assert!(!key.moved(1, false));
        // However slow the machine is.
        KEY.set(KEY.get().map(|key| key + Duration::from_secs(60)));
        assert_eq!((most(&bulk), most(&key)), (POLITE, BUFFER));
        KEY.set(Instant::now().checked_sub(DIALOGUE));
        assert_eq!(most(&bulk), BUFFER);
    }

    #[test]
    fn the_end_of_a_transfer_and_silence_are_no_dialogue() {
        let mut bulk = Turn::default();
        bulk.moved(PLENTY, false);
        bulk.moved(1, false);
        Turn::default().moved(0, false);
        assert_eq!(KEY.get(), None);
    }

    #[test]
    fn no_more_is_read_than_was_taken_last_and_a_little_more_each_time() {
        let mut turn = Turn::default();
        turn.moved(100_000, true);
        assert_eq!(most(&turn), 100_000);
        turn.moved(100_000, false);
        assert_eq!(most(&turn), 100_000 + STEP);
        turn.moved(1, true);
        assert_eq!(most(&turn), STEP);
        for _ in 0..8 {
            turn.moved(PLENTY, false);
        }
        assert_eq!(most(&turn), BUFFER);
    }
}
