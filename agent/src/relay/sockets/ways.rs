//! What has become of the two directions of a relay, and when nothing comes of it any more.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::{End, Moved};

/// The fate of both directions.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) inward: Fate,
    pub(super) outward: Fate,
    /// Something has become of one.
    news: Notify,
}

/// What has become of one direction.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Its reader has read the end.
    pub(super) ended: AtomicBool,
    /// Its writer takes nothing any more.
    pub(super) refused: AtomicBool,
    /// Its writer was reset. The kernel says so once: whoever writes learns it, and who waits for
    /// it on the same socket does not.
    pub(super) reset: AtomicBool,
}

impl Fate {
    /// What a writer's error means for it.
    pub(super) fn refused_by(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionReset {
            self.reset.store(true, Relaxed);
        }
    }

    /// Waits until its writer was reset. Its task is woken by [`Ways::note`].
    pub(super) async fn is_reset(&self) {
        poll_fn(|_| {
            if self.reset.load(Relaxed) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Ways {
    pub(super) fn note(&self, what: &AtomicBool) {
        what.store(true, Relaxed);
        self.news.notify_one();
    }

    /// Whether neither direction leads anywhere any more.
    fn lead_nowhere(&self) -> bool {
        let over = |fate: &Fate| fate.refused.load(Relaxed) || fate.ended.load(Relaxed);
        over(&self.inward) && over(&self.outward)
    }

    /// Waits until one direction has ended, and nothing comes of the other.
    pub(super) async fn over(&self, moved: &Moved, linger: Duration) -> End {
        self.news.notified().await;
        // In a box: few connections get here, and all carry the room for it.
        Box::pin(self.comes_to_nothing(moved, linger)).await
    }

    async fn comes_to_nothing(&self, moved: &Moved, linger: Duration) -> End {
        let total = || moved.inward().wrapping_add(moved.outward());
        let mut before = total();
        loop {
            if self.lead_nowhere() {
                return End::Broken(io::ErrorKind::BrokenPipe.into());
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep(linger) => {
                    let now = total();
                    if now == before {
                        return End::Stalled;
                    }
                    before = now;
                }
            }
        }
    }
}
