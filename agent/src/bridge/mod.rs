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

mod connection;
mod fault;
mod foreign;
mod listener;
mod listening;
mod pace;
mod publish;
mod refusals;
mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::{Config, Listen};
use crate::host::{Inherited, LocalCid};
use crate::pulse::Pulse;
use crate::relay::dial::Dialer;
use crate::relay::sockets::LINGER;
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model::{self, BridgeState, Timestamp};

use connection::Context;
use foreign::Proof;
use listener::Listener;
use pace::Pace;
use refusals::Refusals;
use store::Left;

/// How much the bridge takes on, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at the same time.
    pub open: usize,
    /// Of these, the ones that wait for sshd.
    pub held: usize,
    /// How long one waits for sshd.
    pub hold: Duration,
    /// How long a half-closed one may stand still, see [`LINGER`].
    pub linger: Duration,
    /// How long the open ones may go on after the stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open: 1024,
            held: 128,
            hold: Duration::from_secs(90),
            linger: LINGER,
            grace: Duration::from_secs(5),
        }
    }
}

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
    connections: JoinSet<()>,
    /// Connections of a former agent that are still to be continued.
    left: Vec<Left>,
    refusals: Refusals,
    stand: Stand,
    pace: Pace,
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
            service: config.sshd,
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
            connections: JoinSet::new(),
            left: left.unwrap_or_default(),
            refusals: Refusals::default(),
            stand: Stand::Without,
            pace: Pace::default(),
            remark: None,
        }
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
            let context = Arc::clone(&self.context);
            let resumed = connection::resume(context, self.sshd.clone(), left);
            self.connections.spawn(resumed);
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
                Some(_) = self.connections.join_next() => {}
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

    fn take(&mut self, arrival: listener::Arrival) {
        if let Some(cid) = arrival.local_cid {
            self.on_cid(LocalCid::Known(cid));
        }
        if let Some(cid) = arrival.cid().filter(|cid| !self.allow_cids.contains(cid)) {
            if self.refusals.first_of(cid) {
                warn!(
                    cid,
                    "refused a connection: [bridge] allow_cids does not have it"
                );
            }
            self.slice.update(|bridge| bridge.refused += 1);
            return;
        }
        if self.connections.len() >= self.limits.open {
            let limit = self.limits.open;
            debug!(origin = %arrival.origin, limit, "refused a connection: too many are open");
            self.slice.update(|bridge| bridge.refused += 1);
            connection::turn_away(arrival.socket, "too many connections");
            return;
        }
        let context = Arc::clone(&self.context);
        let sshd = self.sshd.clone();
        self.connections
            .spawn(connection::serve(context, sshd, arrival));
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
        if let Some(store) = &self.context.store {
            self.context.cut.cancel();
            while self.connections.join_next().await.is_some() {}
            store.settle().await;
            return;
        }
        let all = async { while self.connections.join_next().await.is_some() {} };
        if timeout(self.limits.grace, all).await.is_err() {
            self.context.cut.cancel();
            while self.connections.join_next().await.is_some() {}
        }
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
