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
    /// The forward is granted, and not known to lead here.
    Proving {
        /// Since when.
        since: Instant,
        /// When to log in anew, in the hope of a better forward.
        by: Instant,
        /// When to probe next.
        probe_at: Instant,
        /// Which of the proxies, from 0.
        proxy: usize,
        /// The port on the proxy.
        port: u16,
        /// What the last probe met.
        fault: Option<Fault>,
    },
    /// The forward leads here, as far as the proxy lets us see.
    Up {
        /// Since when.
        since: Instant,
        /// When to probe next.
        probe_at: Instant,
        /// When to see whether the first proxy is there again; never, where this is it.
        scout_at: Option<Instant>,
        /// Which of the proxies, from 0.
        proxy: usize,
        /// The port on the proxy.
        port: u16,
        /// How much of it is known.
        proof: Proof,
        /// Probes that failed since one came back.
        missed: u32,
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

/// How much is known of a tunnel that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A probe through the proxy's port came back to us.
    Proven,
    /// The proxy does not let us probe.
    Forbidden,
    /// A probe came back by another way than the one that users take, which failed like this.
    Partial(Fault),
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
    /// The session ended; there is none now.
    Ended(Fault),
    /// A session with the first proxy came up beside the one that there is, or did not.
    Scouted(Result<(u16, Proof), Fault>),
    /// News from outside: it may be worth trying now.
    Nudge,
    /// Time has passed.
    Tick,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It came back to us.
    Answered,
    /// The proxy does not let us probe.
    Forbidden,
    /// It came back by another way than the one that users take.
    Partial(Fault),
    /// It did not come back.
    Failed(Fault),
}

impl Probe {
    /// What is known after it.
    ///
    /// # Errors
    /// What it met, if it did not come back.
    pub fn proof(self) -> Result<Proof, Fault> {
        match self {
            Self::Answered => Ok(Proof::Proven),
            Self::Forbidden => Ok(Proof::Forbidden),
            Self::Partial(fault) => Ok(Proof::Partial(fault)),
            Self::Failed(fault) => Err(fault),
        }
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
