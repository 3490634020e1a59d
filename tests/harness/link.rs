//! A network link between two namespaces, with the rate, delay, loss, queue, order and MTU that a
//! test asks for, in each direction separately.
//!
//! Each namespace has a TUN device. A thread moves the packets from one device to the other:
//!
//! ```text
//! namespace ── TUN ──> [ MTU? loss? queue full? ] ──> serialised at `rate` ──> `delay` ──> TUN ── namespace
//! ```
//!
//! netem would do the same, but some kernels are built without it. A TUN device hands over packets
//! one by one, with checksums, and no larger than its MTU: what is measured is what a wire would
//! carry. That costs processor time for each packet, so a link of more than [`TUN_LIMIT`] is a veth
//! pair with a token bucket filter (tc-tbf(8)) instead, and has a rate only.

mod device;
mod mover;
mod way;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::netns::Namespace;

use mover::Mover;
pub use way::{Count, Way};

/// The highest rate, in bits per second, of a link that is made from TUN devices.
pub const TUN_LIMIT: u64 = 200_000_000;

/// Long enough for a short program on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// The name of the device in both namespaces.
const DEVICE: &str = "wan";

/// The direction from the first namespace to the second.
pub const UP: usize = 0;

/// The direction from the second namespace to the first.
pub const DOWN: usize = 1;

/// A link. The devices disappear on drop.
pub struct Link {
    mover: Option<Mover>,
    shared: Arc<Shared>,
}

/// What the mover and the test both use: for each direction its settings and its counters.
struct Shared(Mutex<[(Way, Count); 2]>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, [(Way, Count); 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// The address in the first namespace.
    pub const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 98, 0, 1));

    /// The address in the second namespace.
    pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 98, 0, 2));

    /// Links two namespaces. `ways` are the settings of [`UP`] and [`DOWN`].
    ///
    /// # Errors
    ///
    /// Without root or /dev/net/tun, or if a fast link is asked for more than a rate.
    pub fn between(near: &Namespace, far: &Namespace, ways: [Way; 2]) -> Result<Self> {
        let shared = Arc::new(Shared(Mutex::new(ways.map(|way| (way, Count::default())))));
        let fast = ways.iter().any(|way| way.rate > TUN_LIMIT);
        let mover = if fast {
            wire(near, far, ways)?;
            None
        } else {
            let ends = [near, far].map(|namespace| namespace.enter(|| device::open(DEVICE)));
            let [near, far] = ends;
            Some(Mover::start([near?, far?], Arc::clone(&shared))?)
        };
        bring_up(near, Self::NEAR)?;
        bring_up(far, Self::FAR)?;
        Ok(Self { mover, shared })
    }

    /// Changes the settings. Packets that are on their way arrive as they would have.
    ///
    /// # Errors
    ///
    /// If the link is a veth pair.
    pub fn set(&self, ways: [Way; 2]) -> Result<()> {
        if self.mover.is_none() {
            return Err(Failure::new("a link this fast can't be changed"));
        }
        for (slot, way) in self.shared.lock().iter_mut().zip(ways) {
            slot.0 = way;
        }
        Ok(())
    }

    /// The settings of both directions.
    pub fn ways(&self) -> [Way; 2] {
        self.shared.lock().map(|(way, _)| way)
    }

    /// What both directions carried and dropped so far. A veth pair counts nothing.
    pub fn counts(&self) -> [Count; 2] {
        self.shared.lock().map(|(_, count)| count)
    }
}

/// Takes the device in a namespace down, and its addresses away, as a DHCP client does that has
/// lost its link.
///
/// # Errors
///
/// What ip says.
pub fn take_down(namespace: &Namespace) -> Result<()> {
    run(namespace, "ip", &format!("address flush dev {DEVICE}"))?;
    run(namespace, "ip", &format!("link set {DEVICE} down"))
}

/// Gives the device in a namespace that address in place of all that it had, and brings it up.
///
/// # Errors
///
/// What ip says.
pub fn bring_up(namespace: &Namespace, address: IpAddr) -> Result<()> {
    for arguments in [
        format!("address flush dev {DEVICE}"),
        format!("address add {address}/24 dev {DEVICE} noprefixroute"),
        format!("link set {DEVICE} up"),
        // The usual congestion control, whatever this machine's is: it fills the queue.
        format!("route add 10.98.0.0/24 dev {DEVICE} src {address} congctl cubic"),
    ] {
        run(namespace, "ip", &arguments)?;
    }
    Ok(())
}

/// Gives the device in a namespace one more address.
///
/// # Errors
///
/// What ip says.
pub fn add_address(namespace: &Namespace, address: IpAddr) -> Result<()> {
    let arguments = format!("address add {address}/24 dev {DEVICE} noprefixroute");
    run(namespace, "ip", &arguments)
}

fn run(namespace: &Namespace, program: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments.split(' '));
    namespace.run(&command, LIMIT).map(drop)
}

/// A veth pair with a token bucket filter at each end.
fn wire(near: &Namespace, far: &Namespace, ways: [Way; 2]) -> Result<()> {
    if let Some(way) = ways.iter().find(|way| **way != way.rate_only()) {
        return Err(Failure::new(format!(
            "too fast for more than a rate: {way:?}"
        )));
    }
    let there = far.path().display().to_string();
    let pair = format!("link add {DEVICE} type veth peer name {DEVICE} netns {there}");
    run(near, "ip", &pair)?;
    for (namespace, way) in [near, far].into_iter().zip(ways) {
        let (rate, queue) = (way.rate, way.queue.as_millis());
        // A burst of fewer than 64 KiB would make the filter cut up each of TCP's large segments.
        let filter =
            format!("qdisc add dev {DEVICE} root tbf rate {rate}bit burst 256kb latency {queue}ms");
        run(namespace, "tc", &filter)?;
    }
    Ok(())
}
