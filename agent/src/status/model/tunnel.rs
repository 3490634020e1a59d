//! What the status says of the tunnel.

use serde::{Deserialize, Serialize};

use super::{Fault, OriginCount, RefusalCount, Timestamp};

/// The slice of the tunnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// See [`TunnelState`].
    pub state: TunnelState,
    /// Since when.
    pub since: Timestamp,
    /// `host:port` of the proxy that is held, or tried.
    pub proxy: Option<String>,
    /// The document's `public_host` of that proxy: the name that users dial.
    #[serde(default)]
    pub public_host: Option<String>,
    /// The fingerprint (`SHA256:..`) of the key of the document in force; null without one.
    #[serde(default)]
    pub key: Option<String>,
    /// The address on the proxy, as it was requested.
    pub bind: Option<String>,
    /// The port on the proxy: the one allocated, or the one that the proxy chose.
    pub port: Option<u16>,
    /// True when a probe through the proxy's own port came back to this guest, or a user's
    /// traffic through it did.
    pub proven: bool,
    /// Why it is up and not proven; null in every other case. Where nothing speaks against the
    /// tunnel, `fault` is null at the same time.
    #[serde(default)]
    pub unproven: Option<Fault>,
    /// Attempts since the tunnel was last up.
    pub attempt: u32,
    /// The other services that are forwarded.
    pub forwards: Vec<Forward>,
    /// The proxies, in the order in which they are tried.
    pub proxies: Vec<ProxyRecord>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// The session's round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// When the last probe came back.
    pub last_probe_at: Option<Timestamp>,
    /// Channels open now.
    pub open: u64,
    /// Channels relayed since the start.
    pub accepted: u64,
    /// Channels turned away: over a limit.
    pub refused: u64,
    /// Who was turned away and why, the most recent last.
    pub refusals: Vec<RefusalCount>,
    /// Where connections came from, the most recent last.
    pub origins: Vec<OriginCount>,
    /// The certificate of the document in force; null without one.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// Why it is not up.
    pub fault: Option<Fault>,
    /// The [`super::Nat::wanted`] that all of this follows. Not in the JSON.
    #[serde(skip)]
    pub wanted: u64,
}

/// The certificate that the tunnel logs in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The name that its authority gave it.
    pub key_id: String,
    /// When its validity begins; null without a beginning.
    pub valid_after: Option<Timestamp>,
    /// When it expires; null for ever.
    pub valid_before: Option<Timestamp>,
    /// Set from a fifth of its life before the end, and while it can't be used. It does not count
    /// against the health: a session that is logged in stays.
    pub warning: Option<Fault>,
}

/// The states of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelState {
    /// Nothing asks for it.
    Off,
    /// Dialling, logging in, requesting the forward.
    Opening,
    /// The forward is granted; its first probes are under way, for 8 s at most.
    Proving,
    /// The forward is granted and proven, or has stayed without proof for a while: `unproven`
    /// says why.
    Up,
    /// Logged in; the proxy refuses the port, which is asked for again.
    PortHeld,
    /// Between two attempts.
    Waiting,
    /// Giving the port back; it may still be held for a moment.
    Closing,
}

/// One forward beside the one to sshd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The address on the proxy, as it was requested.
    pub bind: String,
    /// The port on the proxy.
    pub port: u16,
    /// The service in this guest.
    pub to: String,
    /// See [`ForwardState`].
    pub state: ForwardState,
    /// True when the proxy granted it.
    pub granted: bool,
    /// Why it did not.
    pub fault: Option<Fault>,
    /// How many connections the service did not take since the document came into force.
    #[serde(default)]
    pub refused: u64,
    /// Why the service did not take its last connection; null once it has taken one again. This
    /// fault does not count against the health.
    #[serde(default)]
    pub refusal: Option<Fault>,
}

impl Forward {
    /// Replaces a list with `new`, and keeps the counts of forwards that are in both.
    pub(crate) fn replace(list: &mut Vec<Self>, mut new: Vec<Self>) {
        for forward in &mut new {
            let same = |old: &&mut Self| {
                (&old.bind, old.port, &old.to) == (&forward.bind, forward.port, &forward.to)
            };
            if let Some(old) = list.iter_mut().find(same) {
                forward.refused = old.refused;
                forward.refusal = old.refusal.take();
            }
        }
        *list = new;
    }
}

/// The states of a forward beside the one to sshd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardState {
    /// The proxy has not answered, or there is no session to ask it on.
    Asking,
    /// Granted.
    Up,
    /// Somebody else has the port; it is asked for again.
    PortHeld,
    /// The proxy's rules do not allow it; asked for again at the next login.
    Denied,
}

/// What a proxy last met with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// `host:port`.
    pub proxy: String,
    /// Why the tunnel is not up there, or did not stay up; null when it is, or was not tried.
    pub fault: Option<Fault>,
}
