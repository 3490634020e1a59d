//! News from outside: what happened to this machine that makes another attempt worthwhile, or
//! what is known worthless.
//!
//! ```text
//!  netlink ── links, addresses, routes ──> snapshot differs? ─┐
//!                                                             ├─> pace ──> tunnel, metadata, desire
//!  clock ──── resume, a step of the wall clock ───────────────┘
//!  kmsg ───── restored from a snapshot ──────────────────────────────────> restores (at once)
//! ```
//!
//! All of them wake the agent only when something happens. What the kernel does not offer is left
//! out: then the clocks of the parts are all there is.

mod clock;
pub(crate) mod kmsg;
mod netlink;
mod pace;
mod snapshot;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::metadata::Nudge;
use crate::moment::at;
use clock::Clock;
use kmsg::Kmsg;
use netlink::Netlink;
use pace::Pace;
use snapshot::Snapshot;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A link, an address or a route came or went.
    Network,
    /// The machine slept, or its wall clock was set: peers may have given us up.
    Woken,
    /// A person asks for it.
    Asked,
}

/// Who hears of it.
#[derive(Debug, Clone)]
pub struct Outlets {
    /// The tunnel.
    pub tunnel: mpsc::Sender<News>,
    /// The metadata, which may say something else after a gap in time.
    pub metadata: mpsc::Sender<Nudge>,
    /// Counts changes of the network, for who looks at it.
    pub network: watch::Sender<u64>,
    /// Counts restores from a snapshot, told at once: what was known before may be another
    /// machine's.
    pub restores: watch::Sender<u64>,
}

/// Listens for as long as it is polled.
///
/// `kmsg` is the kernel's log, where the service manager has handed it over.
pub async fn run(kmsg: Option<OwnedFd>, outlets: Outlets) {
    let mut routes = Netlink::routes();
    let mut kmsg = Kmsg::new(kmsg);
    let mut clock = Clock::new();
    let (mut network_pace, mut clock_pace) = (Pace::default(), Pace::default());
    let mut known = Snapshot::take();
    let mut slept = Duration::ZERO;
    loop {
        tokio::select! {
            () = kmsg.restored() => {
                info!("restored from a snapshot");
                outlets.restores.send_modify(|count| *count += 1);
            }
            () = routes.changed() => network_pace.heard(Instant::now()),
            gap = clock.changed() => {
                slept += gap;
                clock_pace.heard(Instant::now());
                // One that waits already says the same. Before the tunnel: the document may be another machine's by now.
                let _ = outlets.metadata.try_send(Nudge::Reload);
            }
            () = at(network_pace.due()) => {
                // Lifetimes that are renewed are told like changes.
                let now = Snapshot::take();
                if now == known {
                    network_pace.dropped();
                    continue;
                }
                known = now;
                network_pace.told(Instant::now());
                info!("the network has changed");
                outlets.network.send_modify(|count| *count += 1);
                let _ = outlets.tunnel.try_send(News::Network);
            }
            () = at(clock_pace.due()) => {
                clock_pace.told(Instant::now());
                let seconds = std::mem::take(&mut slept).as_secs();
                info!(slept = seconds, "the clock was set, or the machine slept");
                let _ = outlets.tunnel.try_send(News::Woken);
            }
        }
    }
}
