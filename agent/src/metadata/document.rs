//! The tunnel document, version 1, parsed into types that cannot be wrong.
//!
//! [`parse()`] reads it from text; what it yields needs no further checks.

mod cursor;
mod fault;
mod fields;
mod number;
mod overlap;
mod parse;
mod place;
mod read;
mod validity;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use russh::keys::ssh_key::{Certificate, PrivateKey};

use super::host_keys::HostKeys;
use crate::config::HttpUrl;
use crate::origin::Origins;

pub use fault::DocumentFault;
pub use parse::{Carrier, Parsed, parse};
pub(super) use parse::{KEY, find, tree};
pub(super) use read::document as read;
pub use validity::{Lapse, Phase, Validity};
pub(super) use write::write;

/// When the tunnel is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// When the guest is behind NAT, or when that is not sure.
    #[default]
    Auto,
    /// Whatever the network looks like.
    Always,
    /// Not at all.
    Never,
}

/// A whole document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The tunnel that it asks for; a document without one asks for none.
    pub tunnel: Option<Arc<TunnelSpec>>,
    /// `report.url`: the service that receives reports of how this guest is reached.
    pub report_url: Option<HttpUrl>,
    /// Keys that this version does not know, as paths: `tunnel.proxys`.
    pub warnings: Vec<String>,
}

/// What the document says of the tunnel.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelSpec {
    /// When to hold it.
    pub when: When,
    /// In the order in which they are tried; never empty.
    pub proxies: Vec<Proxy>,
    /// The forward to sshd.
    pub forward: RemoteForward,
    /// Forwards to other services of the guest.
    pub forwards: Vec<ServiceForward>,
    /// How to log in.
    pub login: Login,
}

/// A machine that runs sshd and lends its ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// A name or an address; resolved at each attempt.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// The name or address by which users reach the proxy, where it differs from `host`.
    pub public_host: Option<String>,
    /// The account to log in to.
    pub user: String,
    /// What it must prove to hold before anything is sent to it.
    pub host_keys: HostKeys,
}

impl fmt::Display for Proxy {
    /// `host:port`, with an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A listening place on the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemoteForward {
    /// As written, without blanks and brackets around it: sshd's `permitlisten` matches it literally.
    pub bind: String,
    /// 1 to 65535, or 0 to let the proxy choose.
    pub port: u16,
}

/// A forward to a service beside sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceForward {
    /// Where the proxy listens; the port is never 0.
    pub at: RemoteForward,
    /// Where the service listens in this guest.
    pub to: SocketAddr,
    /// The source addresses that the service sees.
    pub origins: Origins,
}

/// The proof of who we are. Secret: its `Debug` shows the public half only.
#[derive(Clone, PartialEq)]
pub struct Login {
    /// Wiped from memory when the last owner drops it.
    pub key: Arc<PrivateKey>,
    /// An OpenSSH user certificate for that key.
    pub certificate: Option<Certificate>,
}

impl Login {
    /// Why the certificate is not valid at `now`, or soon will not be.
    #[must_use]
    pub fn lapse(&self, now: SystemTime) -> Option<Lapse> {
        Lapse::of(self.certificate.as_ref()?, now)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field(
                "key",
                &self
                    .key
                    .fingerprint(russh::keys::HashAlg::Sha256)
                    .to_string(),
            )
            .field(
                "certificate",
                &self.certificate.as_ref().map(Certificate::key_id),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests;
