//! From nothing to a session with a proxy that is the right one: resolve, dial, key exchange.
//! Each step has its deadline, and its own fault.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::{AlgorithmKind, Preferred, SshId};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::algorithms::{self, GROUP};
use super::dial::dial;
use super::fault::Fault;
use super::handler::{Gate, GateError, Incoming};
use super::plan::Plan;
use super::timing::Timing;
use super::wire::{self, Line};
use crate::metadata::document::Proxy;
use crate::metadata::host_keys::Offer;

/// How many channels may wait for the session to take them up.
const INCOMING: usize = 256;

/// A session with a proxy that has proved who it is.
pub(super) struct Connection {
    pub(super) handle: Handle<Gate>,
    /// Cuts the connection when dropped.
    pub(super) line: Line,
    /// Channels that the proxy opens.
    pub(super) incoming: mpsc::Receiver<Incoming>,
    /// Says why the session has ended.
    pub(super) ended: mpsc::Receiver<Fault>,
}

/// Connects to the plan's proxy and lets it prove who it is. An address that takes connections
/// and does not serve them is passed over for the others that the name has.
pub(super) async fn connect(plan: &Plan) -> Result<Connection, Fault> {
    let mut dead = Vec::new();
    let mut met = None;
    loop {
        let known = dead.len();
        match connect_alive(plan, &mut dead).await {
            Ok(connection) => return Ok(connection),
            Err(fault) if dead.len() > known => met = Some(fault),
            // What the last address did says more than that there is no other.
            Err(fault) => return Err(met.unwrap_or(fault)),
        }
    }
}

/// Connects to an address that is not `dead`; one that fails is, afterwards.
async fn connect_alive(plan: &Plan, dead: &mut Vec<IpAddr>) -> Result<Connection, Fault> {
    let Plan {
        proxy,
        ghosts,
        timing,
        ..
    } = plan;
    let mut refused = None;
    for offer in proxy.host_keys.offers() {
        let stream = dial(plan, dead).await?;
        let peer = stream.peer_addr().map(|peer| peer.ip()).ok();
        if let Some(peer) = peer {
            ghosts.lay_to_rest(peer);
        }
        match handshake(proxy, stream, &offer, timing).await {
            Ok(connection) => return Ok(connection),
            // It may have the pinned key beside the one that it showed: ask for another kind.
            Err(Handshake::OtherKey(fault)) => {
                // What it showed says more than that it has no key of another kind.
                if !matches!(refused, Some(Fault::HostKeyMismatch { .. })) {
                    refused = Some(fault);
                }
            }
            Err(Handshake::Failed(fault)) => {
                dead.extend(peer);
                return Err(fault);
            }
        }
    }
    Err(refused.unwrap_or_else(|| Fault::KexFailed {
        proxy: proxy.to_string(),
        detail: "no host key is pinned".to_owned(),
        late: false,
    }))
}

enum Handshake {
    /// The proxy showed a key that is not pinned, or has none of the kind asked for.
    OtherKey(Fault),
    Failed(Fault),
}

async fn handshake(
    proxy: &Proxy,
    stream: TcpStream,
    offer: &Offer,
    timing: &Timing,
) -> Result<Connection, Handshake> {
    let (wire, line) = wire::split(stream, timing.silence).map_err(|error| {
        Handshake::Failed(Fault::DialFailed {
            proxy: proxy.to_string(),
            detail: error.to_string(),
        })
    })?;
    let (incoming_in, incoming) = mpsc::channel(INCOMING);
    let (ended_in, ended) = mpsc::channel(1);
    let gate = Gate {
        proxy: proxy.clone(),
        incoming: incoming_in,
        ended: ended_in,
    };
    let session = client::connect_stream(Arc::new(config(offer)), wire, gate);
    match timeout(timing.handshake, session).await {
        Ok(Ok(handle)) => Ok(Connection {
            handle,
            line,
            incoming,
            ended,
        }),
        Ok(Err(GateError::Fault(fault))) => Err(Handshake::OtherKey(fault)),
        Ok(Err(GateError::Ssh(error))) => Err(failure(proxy, &error, &line)),
        Err(_) => {
            let detail = format!("it did not end within {} s", timing.handshake.as_secs());
            // The banner has come, and so small packets pass.
            let progress = line.vitals().now().unwrap_or_default();
            if line.has_banner() && progress.repeats_full_packet() {
                let target = proxy.to_string();
                return Err(Handshake::Failed(Fault::PathMtu { target }));
            }
            Err(Handshake::Failed(broken(proxy, detail, true, &line)))
        }
    }
}

/// What an error of the library means before the key exchange has ended.
fn failure(proxy: &Proxy, error: &russh::Error, line: &Line) -> Handshake {
    let other_key = matches!(
        error,
        russh::Error::NoCommonAlgo {
            kind: AlgorithmKind::Key,
            ..
        }
    );
    if other_key {
        Handshake::OtherKey(Fault::KexFailed {
            proxy: proxy.to_string(),
            detail: reason(error),
            late: false,
        })
    } else {
        Handshake::Failed(broken(proxy, reason(error), false, line))
    }
}

/// Why the key exchange failed, in words for a person who configures the proxy.
fn reason(error: &russh::Error) -> String {
    if let russh::Error::NoCommonAlgo { kind, ours, theirs } = error {
        // The keywords of sshd_config(5).
        let keyword = match kind {
            AlgorithmKind::Kex => "KexAlgorithms",
            AlgorithmKind::Key => "HostKeyAlgorithms",
            AlgorithmKind::Cipher => "Ciphers",
            AlgorithmKind::Mac => "MACs",
            AlgorithmKind::Compression => "compression methods",
        };
        let ours_are = match kind {
            AlgorithmKind::Key => "the pinned host_keys ask for",
            AlgorithmKind::Kex
            | AlgorithmKind::Cipher
            | AlgorithmKind::Mac
            | AlgorithmKind::Compression => "this agent has",
        };
        let (ours, theirs) = (algorithms(ours), algorithms(theirs));
        return format!("its {keyword} are {theirs}; {ours_are} {ours}");
    }
    if matches!(error, russh::Error::KexInit) {
        let (least, most) = GROUP;
        return format!("{error}; in group exchange, a group may have {least} to {most} bits");
    }
    error.to_string()
}

/// The algorithms in a list, without the extension markers of a list of key exchanges.
fn algorithms(names: &[String]) -> String {
    let announces = |name: &str| name.starts_with("ext-info-") || name.starts_with("kex-strict-");
    let names = names.iter().map(String::as_str);
    names
        .filter(|name| !announces(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A connection that came to nothing for this reason: before the banner, or after it.
fn broken(proxy: &Proxy, reason: String, late: bool, line: &Line) -> Fault {
    let proxy = proxy.to_string();
    if line.has_banner() {
        return Fault::KexFailed {
            proxy,
            detail: reason,
            late,
        };
    }
    let detail = line
        .words()
        .map_or(reason, |words| format!("it says {words:?}"));
    Fault::NoBanner { proxy, detail }
}

fn config(offer: &Offer) -> client::Config {
    let mut config = client::Config {
        client_id: SshId::Standard(concat!("SSH-2.0-vmagent_", env!("CARGO_PKG_VERSION")).into()),
        preferred: Preferred {
            key: Cow::Owned(offer.keys.clone()),
            host_key_certificates: Cow::Owned(offer.certificates.clone()),
            kex: Cow::Borrowed(algorithms::KEY_EXCHANGES),
            cipher: Cow::Borrowed(algorithms::ciphers()),
            mac: Cow::Borrowed(algorithms::MACS),
            ..Preferred::DEFAULT
        },
        gex: algorithms::group_exchange(),
        // Keepalives are the session's own: the library's stop while it waits for a channel.
        keepalive_interval: None,
        inactivity_timeout: None,
        // Messages of each channel that wait in the library, beside our own bounded queue: so few
        // that they stay in the processor's cache.
        channel_buffer_size: 4,
        ..client::Config::default()
    };
    // A key exchange that we begin kills a busy session: the library takes no more than two
    // windows of data between our first packet and the peer's. sshd begins one in time.
    config.limits.rekey_read_limit = usize::MAX;
    config.limits.rekey_write_limit = usize::MAX;
    config.limits.rekey_time_limit = Duration::from_secs(10 * 365 * 86_400);
    config
}
