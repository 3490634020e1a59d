//! Talks with the service manager: signals in; readiness, a summary and the watchdog out.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::host;
use crate::lookup;
use crate::metadata::Nudge;
use crate::news::News;
use crate::pulse::Monitor;
use crate::status::board::Slice;
use crate::status::model::{Health, Status};

/// Between two looks at ourselves where no watchdog asks for them.
const LOOK: Duration = Duration::from_secs(60);

/// The signals that mean something to the agent; taken over before anything is started.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

pub(super) struct Supervisor {
    pub(super) signals: Signals,
    pub(super) monitor: Monitor,
    pub(super) status: watch::Receiver<Status>,
    pub(super) restart_pending: Slice<bool>,
    /// Makes the metadata be read again.
    pub(super) reread: mpsc::Sender<Nudge>,
    /// Makes the tunnel be tried again.
    pub(super) nudge: mpsc::Sender<News>,
    /// A part asks for a start from scratch, see [`is_restarted`].
    pub(super) restart: CancellationToken,
}

/// Whether the service manager starts the agent again whenever it ends: the unit says so.
pub(super) fn is_restarted() -> bool {
    std::env::var_os("VMAGENT_RESTARTED").is_some()
}

/// Nobody would be cut off by a restart.
fn is_idle(status: &Status) -> bool {
    status.bridge.open == 0 && status.tunnel.open == 0
}

impl Supervisor {
    /// Says that the agent is ready, and watches over it until it is told to stop.
    pub(super) async fn run(mut self) {
        let watchdog = sd_notify::watchdog_enabled();
        let interval = watchdog.map_or(LOOK, |limit| limit / 3);
        let mut said = summary(&self.status.borrow_and_update());
        notify(&[NotifyState::Ready, NotifyState::Status(&said)]);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                () = self.restart.cancelled(), if is_idle(&self.status.borrow()) => break,
                _ = self.signals.hangup.recv() => {
                    info!("told to reload: reading the metadata again");
                    lookup::network_changed();
                    // One that waits already says the same.
                    let _ = self.reread.try_send(Nudge::Reload);
                    let _ = self.nudge.try_send(News::Asked);
                }
                Ok(()) = self.status.changed() => {
                    let now = summary(&self.status.borrow_and_update());
                    if now != said {
                        said = now;
                        notify(&[NotifyState::Status(&said)]);
                    }
                }
                () = sleep_until(next) => {
                    next = Instant::now() + interval;
                    self.restart_pending.update(|pending| *pending = host::restart_pending());
                    match self.monitor.check(interval).await {
                        Ok(()) if watchdog.is_some() => notify(&[NotifyState::Watchdog]),
                        Ok(()) => {}
                        // Not fed, the service manager starts us anew.
                        Err(hanging) => error!(?hanging, "a part of the agent hangs"),
                    }
                }
            }
        }
        notify(&[NotifyState::Stopping]);
    }
}

/// One line for `systemctl status`.
fn summary(status: &Status) -> String {
    let health = match status.health {
        Health::Ok => "ok",
        Health::Degraded => "degraded",
        Health::Starting => "starting",
    };
    let ways: Vec<&str> = status
        .ways_in
        .iter()
        .map(|way| way.command.as_str())
        .collect();
    if ways.is_empty() {
        return format!("{health}: see vmagent status");
    }
    format!("{health}: {}", ways.join(", "))
}

/// Nobody listens unless a service manager started us; nothing depends on it.
fn notify(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}
