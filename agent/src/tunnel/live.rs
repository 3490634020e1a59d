//! A session that runs in a task of its own, and the wires to it.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::plan::{Ask, Plan, Told};
use super::session;

/// A session that runs; it is cut when this is dropped.
pub(super) struct Live {
    task: JoinHandle<Fault>,
    asks: mpsc::Sender<Ask>,
    pub(super) told: mpsc::Receiver<Told>,
    stop: CancellationToken,
    again: Arc<Notify>,
}

impl Live {
    /// Asks it for something; a session with no room for it is busy with the same.
    /// Asks the one that carries the tunnel.
    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.asks.try_send(ask);
    }

    /// Tells it to end in an orderly way.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Begins a dial that is under way anew.
    pub(super) fn dial_again(&self) {
        self.again.notify_waiters();
    }

    /// What it tells is of no interest any more: it is to end with its last connection.
    pub(super) fn retire(&mut self) {
        self.ask(Ask::Retire);
        self.told.close();
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until it has ended, and says why.
    pub(super) async fn end(&mut self) -> Fault {
        (&mut self.task).await.unwrap_or(Fault::Stopped)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a session.
pub(super) fn open(plan: Plan) -> Live {
    let (asks, asked) = mpsc::channel(4);
    let (tell, told) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let again = Arc::clone(&plan.again);
    let task = tokio::spawn(session::run(plan, asked, tell, stop.clone()));
    Live {
        task,
        asks,
        told,
        stop,
        again,
    }
}
