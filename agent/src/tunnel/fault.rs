//! What can go wrong with the tunnel, how fast to try again, and what a person can do.

mod words;

use std::net::IpAddr;
use std::time::Duration;

use crate::metadata::document::Lapse;

/// Why the tunnel is not up, or not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The proxy's name has no address.
    #[error("{host} does not resolve: {detail}")]
    NameNotResolved {
        /// The name.
        host: String,
        /// The resolver's answer.
        detail: String,
    },
    /// The resolver has not answered yet.
    #[error("the lookup of {host} did not end within {} s", after.as_secs())]
    NameTimeout {
        /// The name.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// No address of the proxy took the connection.
    #[error("can't connect to {proxy}: {detail}")]
    DialFailed {
        /// `host:port`.
        proxy: String,
        /// What the kernel said.
        detail: String,
    },
    /// No address of the proxy answered.
    #[error("{proxy} did not answer within {} s", after.as_secs())]
    DialTimeout {
        /// `host:port`.
        proxy: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection was taken, and closed or left silent before an SSH banner came.
    #[error("{proxy} took the connection but sent no SSH banner: {detail}")]
    NoBanner {
        /// `host:port`.
        proxy: String,
        /// What happened instead.
        detail: String,
    },
    /// The key exchange did not come to an end.
    #[error("the key exchange with {proxy} failed: {detail}")]
    KexFailed {
        /// `host:port`.
        proxy: String,
        /// What happened.
        detail: String,
        /// It began, and did not end in time.
        late: bool,
    },
    /// The proxy proved to hold a key that is not pinned. Nothing was sent to it.
    #[error("{proxy} shows the host key {offered}, which is not pinned")]
    HostKeyMismatch {
        /// `host:port`.
        proxy: String,
        /// The kind and fingerprint of what it showed.
        offered: String,
    },
    /// The proxy does not let us in.
    #[error("{proxy} rejected the login of {user}: {detail}")]
    AuthRejected {
        /// `host:port`.
        proxy: String,
        /// The account.
        user: String,
        /// Which key was offered.
        detail: String,
    },
    /// The proxy took the key, and wants another method besides.
    #[error("{proxy} wants more than the key of {user}: {detail}")]
    AuthMoreWanted {
        /// `host:port`.
        proxy: String,
        /// The account.
        user: String,
        /// The methods that it took, and those that it wants besides.
        detail: String,
    },
    /// The proxy rejected a certificate that is not valid at this time.
    #[error("{proxy} rejected the login of {user}: {lapse}")]
    CertificateInvalid {
        /// `host:port`.
        proxy: String,
        /// The account.
        user: String,
        /// When it was, or will be.
        lapse: Lapse,
    },
    /// The login did not come to an end.
    #[error("logging in to {proxy} did not end within {} s", after.as_secs())]
    AuthTimeout {
        /// `host:port`.
        proxy: String,
        /// How long was waited.
        after: Duration,
    },
    /// Logged in, but somebody else has the port, as far as the proxy lets us see.
    #[error("{proxy} refuses {bind}:{port}: {detail}")]
    PortHeld {
        /// `host:port`.
        proxy: String,
        /// The address asked for.
        bind: String,
        /// The port asked for.
        port: u16,
        /// How that is known.
        detail: &'static str,
    },
    /// Logged in, and nobody has the port, but this key may not have it either.
    #[error("{proxy} does not let this key have {bind}:{port}, though nobody listens there")]
    ForwardDenied {
        /// `host:port`.
        proxy: String,
        /// The address asked for.
        bind: String,
        /// The port asked for.
        port: u16,
    },
    /// Logged in, and no forward of any kind is allowed.
    #[error(
        "{proxy} forwards nothing for this key: neither {bind}:{port} to us, though nobody \
         listens there, nor a connection of ours to that port"
    )]
    ForwardingDisabled {
        /// `host:port`.
        proxy: String,
        /// The address asked for.
        bind: String,
        /// The port asked for.
        port: u16,
    },
    /// The forward request was not answered.
    #[error("{proxy} did not answer the forward request within {} s", after.as_secs())]
    ForwardTimeout {
        /// `host:port`.
        proxy: String,
        /// How long was waited.
        after: Duration,
    },
    /// The forward is granted, but a probe does not come back through it.
    #[error("the forward is granted, but {target} does not lead here: {detail}")]
    NotReachable {
        /// The address that was dialled.
        target: String,
        /// What happened.
        detail: String,
        /// The port refused the connection, which another login may change.
        refused: bool,
    },
    /// No probe can be made from this guest. Users may come in all the same.
    #[error("no probe of the tunnel could be made: {detail}")]
    Unproven {
        /// Why.
        detail: String,
    },
    /// The probe met another machine.
    #[error("{target} leads to another machine, which says {banner:?}")]
    WrongGuest {
        /// The address that was dialled.
        target: String,
        /// What answered.
        banner: String,
    },
    /// The probe came back, but there is no sshd behind it.
    #[error("the tunnel leads here, but sshd on {address} does not answer: {detail}")]
    SshdDown {
        /// Where it is expected.
        address: String,
        /// What happened.
        detail: String,
    },
    /// Nothing arrives any more.
    #[error("{proxy} has been silent for {} s", after.as_secs())]
    KeepaliveLost {
        /// `host:port`.
        proxy: String,
        /// How long.
        after: Duration,
    },
    /// Small packets pass, and full ones are lost without a word.
    #[error("small packets reach {target}, and full ones are lost on the way")]
    PathMtu {
        /// The address that was dialled.
        target: String,
    },
    /// The session ended from the other side.
    #[error("{proxy} ended the session: {detail}")]
    ClosedByProxy {
        /// `host:port`.
        proxy: String,
        /// With which words.
        detail: String,
    },
    /// This guest no longer has the address that the session was opened from.
    #[error("this guest has lost the address {address}, from which it had reached {proxy}")]
    AddressGone {
        /// `host:port`.
        proxy: String,
        /// The address.
        address: IpAddr,
    },
    /// A whole attempt took too long, though none of its steps did.
    #[error("the attempt did not end within {} s", after.as_secs())]
    AttemptTimeout {
        /// How long was waited.
        after: Duration,
    },
    /// We ended the session ourselves.
    #[error("the session was ended by the agent")]
    Stopped,
}

/// How fast to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It may heal by itself, and to ask costs nobody anything.
    Free,
    /// It may heal by itself.
    Soon,
    /// A person has to act; trying more often would only do harm.
    Slow,
}

impl Fault {
    /// Whether the metadata may have a login by now that the proxy takes.
    #[must_use]
    pub fn asks_for_metadata(&self) -> bool {
        matches!(
            self,
            Self::AuthRejected { .. } | Self::CertificateInvalid { .. }
        )
    }

    /// How fast to try again after it.
    #[must_use]
    pub fn pace(&self) -> Pace {
        match self {
            Self::HostKeyMismatch { .. }
            | Self::AuthRejected { .. }
            | Self::AuthMoreWanted { .. }
            | Self::CertificateInvalid { .. }
            | Self::ForwardDenied { .. }
            | Self::ForwardingDisabled { .. } => Pace::Slow,
            Self::NameNotResolved { .. }
            | Self::NameTimeout { .. }
            | Self::DialFailed { .. }
            | Self::DialTimeout { .. } => Pace::Free,
            Self::NoBanner { .. }
            | Self::KexFailed { .. }
            | Self::AuthTimeout { .. }
            | Self::PortHeld { .. }
            | Self::ForwardTimeout { .. }
            | Self::NotReachable { .. }
            | Self::Unproven { .. }
            | Self::WrongGuest { .. }
            | Self::SshdDown { .. }
            | Self::KeepaliveLost { .. }
            | Self::PathMtu { .. }
            | Self::ClosedByProxy { .. }
            | Self::AddressGone { .. }
            | Self::AttemptTimeout { .. }
            | Self::Stopped => Pace::Soon,
        }
    }

    /// Whether a path that loses full packets without a word could be the reason: small packets
    /// have passed, and then nothing more.
    #[must_use]
    pub fn may_be_full_packets(&self) -> bool {
        matches!(
            self,
            Self::PathMtu { .. } | Self::KexFailed { late: true, .. }
        )
    }

    /// Whether a forward that fails its probes like this could be better after another login.
    #[must_use]
    pub fn may_pass_on_another_login(&self) -> bool {
        matches!(
            self,
            Self::NotReachable { refused: true, .. }
                | Self::WrongGuest { .. }
                | Self::PathMtu { .. }
        )
    }
}
