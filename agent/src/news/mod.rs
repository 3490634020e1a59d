//! News from outside: what happened to this machine that makes another attempt worthwhile, or
//! what is known worthless.
//!
//! ```text
//!  netlink ── links, addresses, routes ─┬─> way to the proxy differs? ── pace ──> tunnel, desire
//!                                       └─> snapshot differs? ────────── pace ──> tunnel, desire
//!  clock ──── resume, a step of the wall clock ─────────────────────────  pace ──> tunnel, metadata
//!  kmsg ───── restored from a snapshot ─────────────────────────────────────────> restores (at once)
//! ```
//!
//! All of them wake the agent only when something happens. What the kernel does not offer is left
//! out: then the clocks of the parts are all there is.

mod clock;
pub(crate) mod kmsg;
mod netlink;
mod pace;
mod snapshot;
pub mod way;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::lookup;
use crate::metadata::Nudge;
use crate::moment::at;
use clock::Clock;
use kmsg::Kmsg;
use netlink::Netlink;
use pace::Pace;
use snapshot::Snapshot;
use way::{Targets, Ways, of_interest};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A link, an address or a default route came or went. No attempt is worthwhile for it: it may
    /// be a container's. But the address of a session may be gone.
    Network,
    /// The kernel routes packets to the proxy in another way than before, or can do so at last.
    Way,
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
/// `kmsg` is the kernel's log, where the service manager has handed it over. `targets` are the
/// addresses to which the way is watched.
pub async fn run(kmsg: Option<OwnedFd>, targets: Targets, outlets: Outlets) {
    tokio::join!(gaps(kmsg, &outlets), network(&targets, &outlets));
}

/// Tells of gaps in time.
async fn gaps(kmsg: Option<OwnedFd>, outlets: &Outlets) {
    let mut kmsg = Kmsg::new(kmsg);
    let mut clock = Clock::new();
    let (mut metadata_pace, mut tunnel_pace) = (Pace::at_once(), Pace::default());
    let mut slept = Duration::ZERO;
    loop {
        tokio::select! {
            () = kmsg.restored() => {
                info!("restored from a snapshot");
                outlets.restores.send_modify(|count| *count += 1);
            }
            gap = clock.changed() => {
                slept += gap;
                metadata_pace.heard(Instant::now());
                tunnel_pace.heard(Instant::now());
            }
            // Before the tunnel: the document may be another machine's by now.
            () = at(metadata_pace.due()) => {
                metadata_pace.told(Instant::now());
                // One that waits already says the same.
                let _ = outlets.metadata.try_send(Nudge::Reload);
            }
            () = at(tunnel_pace.due()) => {
                tunnel_pace.told(Instant::now());
                let seconds = std::mem::take(&mut slept).as_secs();
                info!(slept = seconds, "the clock was set, or the machine slept");
                lookup::network_changed();
                let _ = outlets.tunnel.try_send(News::Woken);
            }
        }
    }
}

/// Tells of changes of the network. Those of the way to the proxy have a pace of their own: no
/// container that comes and goes puts them off.
async fn network(targets: &Targets, outlets: &Outlets) {
    let mut kernel = Netlink::routes();
    let mut targets = targets.watch();
    let mut ways = Ways::default();
    let addresses = of_interest(&targets.borrow_and_update());
    ways.follow(addresses).await;
    let mut known = Snapshot::take().await;
    let (mut way_pace, mut pace) = (Pace::default(), Pace::default());
    loop {
        // While both looks are due already, messages wait in the socket: a router that loads its
        // table sends 100 000.
        let listening = way_pace.due().is_none() || pace.due().is_none();
        tokio::select! {
            Ok(()) = targets.changed() => {
                let addresses = of_interest(&targets.borrow_and_update());
                ways.follow(addresses).await;
            }
            () = kernel.changed(), if listening => {
                way_pace.heard(Instant::now());
                pace.heard(Instant::now());
            }
            () = at(way_pace.due()) => {
                if !ways.changed().await {
                    way_pace.dropped();
                    continue;
                }
                way_pace.told(Instant::now());
                info!("the way to the proxy has changed");
                lookup::network_changed();
                outlets.network.send_modify(|count| *count += 1);
                let _ = outlets.tunnel.try_send(News::Way);
            }
            () = at(pace.due()) => {
                // Lifetimes that are renewed are told like changes.
                let now = Snapshot::take().await;
                if now == known {
                    pace.dropped();
                    continue;
                }
                known = now;
                pace.told(Instant::now());
                info!("the network has changed");
                lookup::network_changed();
                outlets.network.send_modify(|count| *count += 1);
                let _ = outlets.tunnel.try_send(News::Network);
            }
        }
    }
}
