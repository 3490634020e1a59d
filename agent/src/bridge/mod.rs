//! The bridge: AF_VSOCK port 22, or a Unix socket in its place, to the local sshd.
//!
//! ```text
//!                    ┌──────────── bound or inherited ───────────┐
//!                    │                                           v
//!   start ──> trying to bind <── the listener is lost ── holding the listener
//!                │   ^   │                                 │  no vsock device:  waiting
//!      no, fault │   │   │ another one serves the port     │  sshd is down:     waiting
//!                v   │   v                                 │  sshd has answered: ready
//!             waiting  foreign                             v
//!                (each asks again after a while)     one task for each connection
//! ```
//!
//! | task | does |
//! |---|---|
//! | [`Bridge::run`] | owns the listener, accepts, writes state and fault |
//! | `connection::serve` | one for each connection: holds it while sshd starts, relays, counts |
//!
//! Nothing ends the bridge but its cancellation token: it is the rescue path.

mod admission;
mod connection;
mod diag;
mod fault;
mod foreign;
mod listener;
mod listening;
mod pace;
mod publish;
mod reach;
mod store;
mod turned_away;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admission::Admission;
use crate::config::{Config, Listen};
use crate::host::{Inherited, LocalCid};
use crate::pulse::Pulse;
use crate::refusals::Refusals;
use crate::relay::dial::Dialer;
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model::{self, BridgeState, Timestamp};

pub use admission::Limits;
use connection::{Context, Refused};
use foreign::Proof;
use listener::Listener;
use pace::Pace;
use store::Left;
use turned_away::TurnedAway;

/// The bridge and all it needs.
#[derive(Debug)]
pub struct Bridge {
    listen: Listen,
    allow_cids: Vec<u32>,
    inherited: Vec<Inherited>,
    limits: Limits,
    slice: Slice<model::Bridge>,
    sshd: Sshd,
    // Counts restores from a snapshot: the device may be another one since.
    restores: watch::Receiver<u64>,
    context: Arc<Context>,
    admission: Admission,
    connections: JoinSet<Result<(), Refused>>,
    /// Connections of a former agent that are still to be continued.
    left: Vec<Left>,
    turned_away: TurnedAway,
    refusals: Refusals,
    stand: Stand,
    pace: Pace,
    /// Asks the service manager, if there is one, to start this program anew.
    restart: Option<CancellationToken>,
    /// Whether anything but a missing privilege has kept the port from us since then.
    hindered: bool,
    // What an inherited socket had against it: worth knowing even when all else is well.
    remark: Option<model::Fault>,
}

/// Where the bridge stands with its listener.
#[derive(Debug)]
enum Stand {
    /// A listener is ours.
    Holding { listener: Listener, cid: LocalCid },
    /// Another program has it.
    Foreign { proof: Proof },
    /// Nobody has it, or not yet.
    Without,
}

impl Bridge {
    /// A bridge that has not started yet. `inherited` are all the descriptors that the service
    /// manager handed over; the first that is a listening socket of the right kind is used.
    #[must_use]
    pub fn new(
        config: &Config,
        mut inherited: Vec<Inherited>,
        limits: Limits,
        dialer: Dialer,
        sshd: Sshd,
        restores: watch::Receiver<u64>,
        slice: Slice<model::Bridge>,
    ) -> Self {
        let (store, left) = store::take_over(&mut inherited).unzip();
        let context = Context {
            sshd: sshd.clone(),
            dialer,
            slice: slice.clone(),
            limits,
            store,
            places: Semaphore::new(limits.held),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Self {
            listen: config.listen.clone(),
            allow_cids: config.allow_cids.clone(),
            inherited,
            limits,
            slice,
            sshd,
            restores,
            context: Arc::new(context),
            admission: Admission::new(limits.open),
            connections: JoinSet::new(),
            left: left.unwrap_or_default(),
            turned_away: TurnedAway::default(),
            refusals: Refusals::default(),
            stand: Stand::Without,
            pace: Pace::default(),
            restart: None,
            hindered: false,
            remark: None,
        }
    }

    /// Has a service manager behind it, which can bind ports that this process may not, and starts
    /// it anew after `restart`.
    #[must_use]
    pub fn restarted_by(mut self, restart: CancellationToken) -> Self {
        self.restart = Some(restart);
        self
    }

    /// Runs until `stop`. Then connections are left to the next agent, see [`store`]; where they
    /// can't be, they have a few seconds more.
    ///
    /// `decided` is told once the first attempt to get a listener has come out, whichever way.
    pub async fn run(
        mut self,
        decided: oneshot::Sender<()>,
        mut pulse: Pulse,
        stop: CancellationToken,
    ) {
        for left in std::mem::take(&mut self.left) {
            self.resume(left);
        }
        if self.listen == Listen::Off {
            self.off();
        } else {
            self.start();
        }
        let _ = decided.send(());
        let mut minute = interval(Duration::from_secs(60));
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = pulse.answer() => {}
                () = self.sshd.changed() => self.publish(),
                Ok(()) = self.restores.changed() => self.on_restore(),
                Some(ended) = self.connections.join_next() => self.on_ended(ended),
                _ = minute.tick() => self.on_minute(),
                event = next(&self.stand, &self.pace) => self.on(event, &stop).await,
            }
        }
        self.close().await;
    }

    fn off(&self) {
        if !self.inherited.is_empty() {
            warn!(
                "[bridge] listen is \"off\", but the service manager listens for it: \
                 systemctl disable --now vmagent.socket"
            );
        }
        self.slice.update(|bridge| {
            bridge.state = BridgeState::Off;
            bridge.since = Timestamp::now();
        });
    }

    async fn on(&mut self, event: Event, stop: &CancellationToken) {
        match event {
            Event::Accepted(Ok(arrival)) => {
                self.pace.accepted();
                self.take(arrival);
            }
            Event::Accepted(Err(error)) => self.on_accept_error(error),
            Event::Due => {
                self.try_to_listen();
                self.prove(stop).await;
            }
            Event::DeviceDue => self.look_for_device(),
        }
    }

    fn on_minute(&mut self) {
        if let Some(summary) = self.refusals.summary() {
            warn!("refused connections in the last minute: {summary}");
        }
        self.look_for_device();
    }

    async fn close(mut self) {
        // The listener goes first: what arrives from now on is for the next agent.
        self.stand = Stand::Without;
        self.context.stop.cancel();
        // Where they can be left to the next agent, they are, at once.
        let patience = match self.context.store {
            Some(_) => Duration::ZERO,
            None => self.limits.grace,
        };
        if timeout(patience, self.drain()).await.is_err() {
            self.context.cut.cancel();
            while self.connections.join_next().await.is_some() {}
        }
        if let Some(store) = &self.context.store {
            store.settle().await;
        }
    }

    /// Waits until all connections have ended, and who was turned away has heard it.
    async fn drain(&mut self) {
        while let Some(ended) = self.connections.join_next().await {
            self.on_ended(ended);
        }
        self.turned_away.drain().await;
    }
}

/// What happens to the listener.
enum Event {
    Accepted(std::io::Result<listener::Arrival>),
    /// It is time to ask again for the port.
    Due,
    /// It is time to look again for the device.
    DeviceDue,
}

async fn next(stand: &Stand, pace: &Pace) -> Event {
    let Stand::Holding { listener, .. } = stand else {
        until(pace.due()).await;
        return Event::Due;
    };
    let accept = async {
        // After one that failed for want of descriptors, the next is not made at once.
        if let Some(due) = pace.accept_due() {
            sleep_until(due).await;
        }
        listener.accept().await
    };
    tokio::select! {
        result = accept => Event::Accepted(result),
        () = until(pace.due()) => Event::DeviceDue,
    }
}

/// Sleeps until then; for ever if there is nothing to wait for.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
