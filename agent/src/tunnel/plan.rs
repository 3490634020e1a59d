//! What a session is to do, what it is asked while it lives, and what it tells.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use super::fault::Fault;
use super::ghost::Ghosts;
use super::machine::Probe;
use super::timing::Timing;
use crate::metadata::Nudge;
use crate::metadata::document::{Proxy, TunnelSpec};
use crate::news::way::Targets;
use crate::relay::dial::Dialer;
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model;

/// What a session is to do.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) spec: Arc<TunnelSpec>,
    pub(super) proxy: Proxy,
    /// The watch over sshd.
    pub(super) watch: Sshd,
    pub(super) dialer: Dialer,
    pub(super) timing: Timing,
    /// Begins a dial that is under way anew.
    pub(super) again: Arc<Notify>,
    /// Takes the addresses that the proxy's name resolves to.
    pub(super) targets: Targets,
    /// The port was ours since it was asked for first: who has it may be a ghost of this guest.
    pub(super) ours: bool,
    /// The largest segment of TCP that passes to this proxy, in bytes, if that is known to be
    /// small.
    pub(super) segment: Option<u32>,
    /// Connections to reset when there is a way out again.
    pub(super) ghosts: Ghosts,
    /// Where open channels are counted.
    pub(super) slice: Slice<model::Tunnel>,
    /// Has the metadata read again.
    pub(super) reread: mpsc::Sender<Nudge>,
}

/// What the driver asks of a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The forward to sshd, again.
    Request,
    /// A probe, unless one is under way.
    Probe,
    /// To end if this guest no longer has the session's address.
    CheckAddress,
    /// To end if the proxy shows no sign of life soon.
    CheckPeer,
    /// To take no more connections, and to end with the last one that is open.
    Retire,
}

/// What a live session tells the driver.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Granted(u16),
    Refused {
        fault: Fault,
        shared: bool,
    },
    Probed(Probe),
    /// Whether users have connections open.
    InUse(bool),
    Forwards(Vec<model::Forward>),
    RoundTrip(Option<f64>),
}
