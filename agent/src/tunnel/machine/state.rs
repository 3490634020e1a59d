//! What the machine is told, where it can stand, and what it orders.

use std::time::Instant;

use crate::tunnel::fault::Fault;

/// Where the tunnel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing is asked for.
    Idle,
    /// A session is being opened.
    Opening {
        /// Since when.
        since: Instant,
        /// When it has taken too long.
        by: Instant,
        /// Which of the proxies, from 0.
        proxy: usize,
    },
    /// Logged in; the port is refused and asked for again.
    PortHeld {
        /// Since when.
        since: Instant,
        /// When to ask again.
        retry_at: Instant,
        /// When to try another proxy; never, where there is one only.
        leave_at: Option<Instant>,
        /// Which of the proxies, from 0.
        proxy: usize,
        /// How it was refused.
        fault: Fault,
    },
    /// The forward is granted; the first probes are under way.
    Proving {
        /// Since when.
        since: Instant,
        /// When the tunnel counts as up without proof.
        by: Instant,
        /// When to probe next.
        probe_at: Instant,
        /// Which of the proxies, from 0.
        proxy: usize,
        /// The port on the proxy.
        port: u16,
        /// The last probe, if it failed.
        met: Option<Probe>,
    },
    /// The forward is granted, and its first probes have ended. [`Proof`] says how.
    Up {
        /// Since when.
        since: Instant,
        /// When to probe next.
        probe_at: Instant,
        /// When to see whether the first proxy is there again; never, where this is it.
        scout_at: Option<Instant>,
        /// When to log in again in the hope of a better forward; never, while there is no reason.
        reopen_at: Option<Instant>,
        /// Which of the proxies, from 0.
        proxy: usize,
        /// The port on the proxy.
        port: u16,
        /// How much of it is known.
        proof: Proof,
        /// Probes that failed since the last proof.
        missed: u32,
        /// Until when a probe that fails on its way proves nothing: users came in while probes
        /// failed.
        vouched: Option<Instant>,
    },
    /// Between two attempts.
    Waiting {
        /// Since when.
        since: Instant,
        /// When to try again.
        until: Instant,
        /// Why the last attempt ended.
        fault: Fault,
    },
    /// The session has been told to end.
    Closing {
        /// When to go on without its answer.
        by: Instant,
        /// What comes then.
        then: Next,
    },
}

impl State {
    /// The proxy of the session that there is.
    #[must_use]
    pub fn proxy(&self) -> Option<usize> {
        match self {
            Self::Opening { proxy, .. }
            | Self::PortHeld { proxy, .. }
            | Self::Proving { proxy, .. }
            | Self::Up { proxy, .. } => Some(*proxy),
            Self::Idle | Self::Waiting { .. } | Self::Closing { .. } => None,
        }
    }
}

impl State {
    /// The proxy that the end of a session speaks against, and why it ended: `ended`, unless this
    /// agent has closed it for another reason.
    #[must_use]
    pub fn blamed<'a>(&'a self, ended: &'a Fault) -> Option<(usize, &'a Fault)> {
        if let Self::Closing {
            then: Next::Retry { proxy, fault },
            ..
        } = self
        {
            return Some((*proxy, fault));
        }
        Some((self.proxy()?, ended))
    }
}

/// How much is known of a tunnel that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A probe through the proxy's port came back to this guest, or a user's traffic did.
    Proven,
    /// No probe can be made from this guest, for this reason. Nothing speaks against the tunnel.
    Untried(Fault),
    /// Probes were made and failed like this: users may meet the same.
    Doubtful(Fault),
}

/// What follows the end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing is wanted any more.
    Rest,
    /// Something else is wanted, or the same on a new session.
    Reopen,
    /// The proxies after this one, and then the same again after a while.
    Retry {
        /// The proxy that has been tried, from 0.
        proxy: usize,
        /// What came of it.
        fault: Fault,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What is wanted changed: a tunnel through one of so many proxies, or none.
    Wanted(usize),
    /// The forward is granted on this port.
    Granted(u16),
    /// The forward is refused; the session lives.
    Refused {
        /// How.
        fault: Fault,
        /// Another forward of the same session is granted.
        shared: bool,
    },
    /// A probe ended.
    Probed(Probe),
    /// Whether users have connections open on the session that there is.
    InUse(bool),
    /// The session ended; there is none now.
    Ended(Fault),
    /// A session with the first proxy came up beside the one that there is, or did not.
    Scouted(Result<(u16, Proof), Fault>),
    /// Everything that failed may be different now: a person asks, or the way to the proxy is
    /// another.
    Nudge,
    /// The machine slept, or its clock was set.
    Woken,
    /// Time has passed.
    Tick,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It came back to this guest.
    Answered,
    /// It was not needed: since the last one, a user's connection through the port has moved
    /// several KiB each way.
    Carried,
    /// It could not be made from this guest.
    Untried(Fault),
    /// It came back by another way than the one that users take, which failed like this.
    Partial(Fault),
    /// It did not come back.
    Failed(Fault),
}

impl Probe {
    /// The proof of the tunnel that follows from it.
    #[must_use]
    pub fn proof(self) -> Proof {
        match self {
            Self::Answered | Self::Carried => Proof::Proven,
            Self::Untried(fault) => Proof::Untried(fault),
            Self::Partial(fault) | Self::Failed(fault) => Proof::Doubtful(fault),
        }
    }

    /// Whether it says less of the tunnel than `known`, and could be a packet that was lost.
    pub(super) fn may_be_chance(&self, known: &Proof) -> bool {
        match (known, self) {
            (Proof::Doubtful(_), _) => false,
            (Proof::Untried(_), Self::Untried(_)) => false,
            (Proof::Proven | Proof::Untried(_), _) => true,
        }
    }

    /// Whether a firewall or a router on its own way could be the reason, which users do not meet.
    pub(super) fn fails_on_its_way(&self) -> bool {
        !matches!(
            self,
            Self::Failed(Fault::SshdDown { .. } | Fault::PathMtu { .. })
        )
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Open a session to this proxy.
    Open(usize),
    /// Ask for the forward again, on the session that there is.
    Request,
    /// Probe.
    Probe,
    /// End the session.
    Close,
    /// Bring a session with this proxy up beside the one that there is.
    Scout(usize),
    /// Take the session that was scouted; the other ends with its last connection.
    Switch,
}
