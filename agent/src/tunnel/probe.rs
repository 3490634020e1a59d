//! The probe: proves that the port on the proxy leads to this guest, and to its sshd.
//!
//! ```text
//!  probe ── connects to the port on the proxy, says "vmagent-probe NONCE"
//!     │                       │
//!     │           the proxy opens a channel to us
//!     │                       │
//!     └── reads <── "vmagent-proof NONCE ok SSH-2.0-OpenSSH_10.0" <── the agent, having read
//!                                                                     sshd's banner itself
//! ```
//!
//! Only who holds the session can know the nonce. The connection never reaches sshd, so that it
//! costs the address that it seems to come from no penalty; sshd's banner is read from the
//! agent's own address.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use russh::client::Handle;
use russh::{ChannelMsg, ChannelOpenFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fault::Fault;
use super::handler::Gate;
use super::machine::Probe;
use super::timing::Timing;

/// Longer than any answer: a banner has at most 255 bytes (RFC 4253, 4.2).
const ANSWER: usize = 512;

/// What only this agent knows, for the time of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nonce(u128);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The probe that is under way, where incoming channels can see it.
#[derive(Debug, Clone)]
pub(super) struct Desk(Arc<watch::Sender<Option<Nonce>>>);

impl Desk {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// The nonce of the probe that is under way.
    pub(super) fn expected(&self) -> Option<Nonce> {
        *self.0.borrow()
    }
}

impl Nonce {
    /// Whether these first bytes of a connection are the probe's.
    pub(super) fn opens(self, bytes: &[u8]) -> bool {
        bytes == greeting(self).as_bytes()
    }

    /// What the probe waits for. `sshd` is sshd's banner, or why there is none.
    pub(super) fn answer(self, sshd: &Result<String, String>) -> String {
        match sshd {
            Ok(banner) => format!("vmagent-proof {self} ok {banner}\r\n"),
            Err(why) => format!("vmagent-proof {self} down {why}\r\n"),
        }
    }
}

fn greeting(nonce: Nonce) -> String {
    format!("vmagent-probe {nonce}\r\n")
}

/// What a probe needs to know of its session.
pub(super) struct Probing {
    pub(super) handle: Arc<Handle<Gate>>,
    pub(super) desk: Desk,
    /// The proxy's address.
    pub(super) peer: IpAddr,
    /// The forward's bind address, as it was requested.
    pub(super) bind: String,
    /// The forward's port.
    pub(super) port: u16,
    /// Where sshd is expected in this guest.
    pub(super) sshd: SocketAddr,
    pub(super) timing: Timing,
}

/// How the port is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// As a user outside would: over the network.
    Outside(IpAddr),
    /// As a user of `ssh -J` would: from inside the proxy.
    Inside(String),
}

/// The way that users take to a forward on `bind`, on the proxy at `peer`.
pub(super) fn route(bind: &str, peer: IpAddr) -> Route {
    match (bind, bind.parse::<IpAddr>()) {
        ("" | "*", _) => Route::Outside(peer),
        (_, Ok(address)) if address.is_unspecified() => Route::Outside(peer),
        (_, Ok(address)) if !address.is_loopback() => Route::Outside(address),
        // A name means something on the proxy only.
        (name, _) => Route::Inside(name.to_owned()),
    }
}

impl Probing {
    /// Runs one probe; takes two deadlines at most.
    pub(super) async fn run(self) -> Probe {
        let mut secret = [0; 16];
        if let Err(error) = getrandom::fill(&mut secret) {
            let target = self.bind.clone();
            return Probe::Failed(Fault::NotReachable {
                target,
                detail: error.to_string(),
            });
        }
        let nonce = Nonce(u128::from_ne_bytes(secret));
        self.desk.0.send_replace(Some(nonce));
        let result = match route(&self.bind, self.peer) {
            Route::Outside(address) => self.outside(address, nonce).await,
            Route::Inside(host) => self.inside(&host, nonce).await,
        };
        self.desk.0.send_replace(None);
        result
    }

    async fn outside(&self, address: IpAddr, nonce: Nonce) -> Probe {
        let target = SocketAddr::new(address, self.port);
        let unreachable = |detail: &io::Error| Fault::NotReachable {
            target: target.to_string(),
            detail: detail.to_string(),
        };
        let stream = timeout(self.timing.probe_deadline, TcpStream::connect(target)).await;
        match stream
            .map_err(io::Error::from)
            .and_then(|connected| connected)
        {
            Ok(mut stream) => {
                let answer = timeout(self.timing.probe_deadline, ask(&mut stream, nonce)).await;
                match answer.map_err(io::Error::from).and_then(|answer| answer) {
                    Ok(answer) => self.judge(&target.to_string(), nonce, &answer),
                    Err(error) => Probe::Failed(unreachable(&error)),
                }
            }
            // Somebody is there and nobody listens: users meet the same.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Probe::Failed(unreachable(&error))
            }
            // Perhaps only this guest may not dial that port. See whether it leads here at all.
            Err(error) => match self.inside("127.0.0.1", nonce).await {
                Probe::Answered => Probe::Partial(unreachable(&error)),
                Probe::Forbidden | Probe::Partial(_) | Probe::Failed(_) => {
                    Probe::Failed(unreachable(&error))
                }
            },
        }
    }

    async fn inside(&self, host: &str, nonce: Nonce) -> Probe {
        let target = format!("{host}:{} from inside the proxy", self.port);
        let failed = |detail: String| {
            Probe::Failed(Fault::NotReachable {
                target: target.clone(),
                detail,
            })
        };
        match timeout(self.timing.probe_deadline, self.ask_inside(host, nonce)).await {
            Ok(Ok(answer)) => self.judge(&target, nonce, &answer),
            Ok(Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::AdministrativelyProhibited,
            ))) => Probe::Forbidden,
            Ok(Err(error)) => failed(error.to_string()),
            Err(error) => failed(error.to_string()),
        }
    }

    async fn ask_inside(&self, host: &str, nonce: Nonce) -> Result<Vec<u8>, russh::Error> {
        let port = u32::from(self.port);
        let mut channel = self
            .handle
            .channel_open_direct_tcpip(host, port, "127.0.0.1", 0)
            .await?;
        channel.data(greeting(nonce).as_bytes()).await?;
        let mut answer = Vec::new();
        let mut done = false;
        // To the end: the library leaks a channel that we close before the peer does.
        while let Some(message) = channel.wait().await {
            if matches!(message, ChannelMsg::Close) {
                break;
            }
            if let (ChannelMsg::Data { data }, false) = (message, done) {
                answer.extend_from_slice(&data);
            }
            if !done && complete(&answer) {
                done = true;
                channel.eof().await?;
            }
        }
        Ok(answer)
    }

    fn judge(&self, target: &str, nonce: Nonce, answer: &[u8]) -> Probe {
        let text = String::from_utf8_lossy(answer);
        let line = text.lines().next().unwrap_or_default();
        let proof = format!("vmagent-proof {nonce} ");
        match line
            .strip_prefix(&proof)
            .and_then(|rest| rest.split_once(' '))
        {
            Some(("ok", _)) => Probe::Answered,
            Some((_, why)) => Probe::Failed(Fault::SshdDown {
                address: self.sshd.to_string(),
                detail: why.to_owned(),
            }),
            None if line.is_empty() => Probe::Failed(Fault::NotReachable {
                target: target.to_owned(),
                detail: "the connection was closed without a word".to_owned(),
            }),
            None => Probe::Failed(Fault::WrongGuest {
                target: target.to_owned(),
                banner: line.chars().take(80).collect(),
            }),
        }
    }
}

async fn ask(stream: &mut TcpStream, nonce: Nonce) -> io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting(nonce).as_bytes()).await?;
    let mut answer = Vec::new();
    while !complete(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn complete(answer: &[u8]) -> bool {
    answer.contains(&b'\n') || answer.len() >= ANSWER
}

#[cfg(test)]
mod tests;
