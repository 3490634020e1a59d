//! Work that blocks in the kernel, beside the only thread of the runtime.

use std::sync::mpsc::{self, SendError};
use std::thread::Builder;

use tokio::sync::oneshot;
use tracing::debug;

/// Runs `work` on a thread of its own and returns the result. Dropping the future does not stop
/// the work, and the process exits without waiting for the thread.
///
/// If the kernel can't create a thread, `work` runs on the calling thread. (tokio's
/// `spawn_blocking` panics then.) If `work` panics on its own thread, the result is the default.
pub(crate) async fn aside<T: Default + Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    run(Builder::new().name(name.to_owned()), work).await
}

async fn run<T, F>(thread: Builder, work: F) -> T
where
    T: Default + Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (result, awaited) = oneshot::channel();
    // Work inside the closure of a failed spawn is lost, so a channel carries the work.
    let (sender, receiver) = mpsc::channel::<F>();
    let serve = move || {
        if let Ok(work) = receiver.recv() {
            // The receiver is gone if the caller's future was dropped.
            let _ = result.send(work());
        }
    };
    // A failed spawn drops `receiver`, and `send` returns the work.
    if let Err(error) = thread.spawn(serve) {
        debug!(%error, "no thread could be created; the work runs on this one");
    }
    match sender.send(work) {
        Ok(()) => awaited.await.unwrap_or_default(),
        Err(SendError(work)) => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn work_runs_on_a_thread_of_its_own() {
        let here = thread::current().id();
        let there = aside("aside", move || Some(thread::current().id())).await;
        assert_ne!(there.unwrap(), here);
    }

    #[tokio::test]
    async fn without_a_thread_work_runs_on_the_calling_one() {
        // No address space has room for this stack, so the kernel can't create the thread.
        let thread = || Builder::new().stack_size(1 << 60);
        thread().spawn(|| ()).unwrap_err();
        let here = thread::current().id();
        let there = run(thread(), move || Some(thread::current().id())).await;
        assert_eq!(there, Some(here));
    }

    #[tokio::test]
    async fn the_result_of_work_that_panics_is_the_default() {
        let result: u32 = aside("aside", || panic!("as the test wants it")).await;
        assert_eq!(result, 0);
    }
}
