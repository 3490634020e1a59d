//! Waits for one event, feeds the machine, shows its state, and does as it orders.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::machine::{Input, Machine, Order, Probe};
use super::session::{self, Ask, Plan, Told};
use super::show;
use super::timing::Timing;
use crate::metadata::{self, document::TunnelSpec};
use crate::pulse::Pulse;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, Timestamp};

/// Holds the tunnel that is wanted.
pub struct Driver {
    /// The tunnel that is wanted now.
    pub wanted: watch::Receiver<Option<Arc<TunnelSpec>>>,
    /// News from outside that make an attempt worthwhile.
    pub nudges: mpsc::Receiver<()>,
    /// Told when a proxy rejects our login: the metadata may have a newer key.
    pub rejected: mpsc::Sender<metadata::Nudge>,
    /// Where sshd is expected.
    pub sshd: SocketAddr,
    /// Reaches sshd.
    pub dialer: Dialer,
    /// The tunnel's slice of the status.
    pub slice: Slice<model::Tunnel>,
    /// The durations.
    pub timing: Timing,
    /// Shows the watchdog that this loop turns.
    pub pulse: Pulse,
}

/// The session that there is.
struct Live {
    task: JoinHandle<Fault>,
    asks: mpsc::Sender<Ask>,
    told: mpsc::Receiver<Told>,
    stop: CancellationToken,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    /// Runs until `stop`; then the port is given back before this returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut machine = Machine::new(self.timing.clone(), fastrand::Rng::new());
        let mut live: Option<Live> = None;
        let mut spec = None;
        self.wanted.mark_changed();
        while let Some(input) = self.next(&machine, &mut live, &stop).await {
            match &input {
                Input::Wanted(_) => spec = self.wanted.borrow_and_update().clone(),
                Input::Ended(fault) => {
                    live = None;
                    if matches!(fault, Fault::AuthRejected { .. }) {
                        // One that waits already says the same.
                        let _ = self.rejected.try_send(metadata::Nudge::AuthFault);
                    }
                }
                Input::Probed(Probe::Answered) => {
                    self.slice
                        .update(|slice| slice.last_probe_at = Some(Timestamp::now()));
                }
                Input::Granted(_)
                | Input::Refused(_)
                | Input::Probed(_)
                | Input::Nudge
                | Input::Tick => {}
            }
            let before = machine.state().clone();
            let order = machine.step(Instant::now(), input);
            show::publish(&self.slice, &before, &machine, spec.as_deref());
            if let Some(order) = order {
                self.obey(order, &mut live, spec.as_ref());
            }
        }
        if let Some(mut live) = live {
            live.stop.cancel();
            // A little more than the session allows itself.
            let _ = timeout(3 * self.timing.close, &mut live.task).await;
        }
    }

    /// The next input; none when it is time to stop.
    async fn next(
        &mut self,
        machine: &Machine,
        live: &mut Option<Live>,
        stop: &CancellationToken,
    ) -> Option<Input> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.pulse.answer() => {}
                Ok(()) = self.wanted.changed() => {
                    let proxies = self.wanted.borrow().as_ref().map_or(0, |spec| spec.proxies.len());
                    return Some(Input::Wanted(proxies));
                }
                input = news(live) => return Some(input),
                Some(()) = self.nudges.recv() => return Some(Input::Nudge),
                () = at(machine.deadline()) => return Some(Input::Tick),
            }
        }
    }

    fn obey(&self, order: Order, live: &mut Option<Live>, spec: Option<&Arc<TunnelSpec>>) {
        match order {
            Order::Open(index) => {
                let proxy = spec.and_then(|spec| spec.proxies.get(index));
                if let (Some(spec), Some(proxy)) = (spec, proxy) {
                    let plan = Plan {
                        spec: Arc::clone(spec),
                        proxy: proxy.clone(),
                        sshd: self.sshd,
                        dialer: self.dialer.clone(),
                        timing: self.timing.clone(),
                        slice: self.slice.clone(),
                    };
                    *live = Some(open(plan));
                }
            }
            // The session is busy with the same if there is no room.
            Order::Request => drop(live.as_ref().map(|live| live.asks.try_send(Ask::Request))),
            Order::Probe => drop(live.as_ref().map(|live| live.asks.try_send(Ask::Probe))),
            Order::Close => {
                if let Some(live) = live {
                    live.stop.cancel();
                }
            }
        }
    }
}

fn open(plan: Plan) -> Live {
    let (asks, asked) = mpsc::channel(4);
    let (tell, told) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let task = tokio::spawn(session::run(plan, asked, tell, stop.clone()));
    Live {
        task,
        asks,
        told,
        stop,
    }
}

/// What the session says next; what it has said before it ended comes before its end.
async fn news(live: &mut Option<Live>) -> Input {
    let Some(live) = live else {
        return std::future::pending().await;
    };
    match live.told.recv().await {
        Some(Told::Granted(port)) => Input::Granted(port),
        Some(Told::Refused(fault)) => Input::Refused(fault),
        Some(Told::Probed(probe)) => Input::Probed(probe),
        None => Input::Ended((&mut live.task).await.unwrap_or(Fault::Stopped)),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
