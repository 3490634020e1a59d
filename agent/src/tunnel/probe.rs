//! The probe: proves that the port on the proxy leads to this guest, and to its sshd.
//!
//! It connects to the port the way users do, over the network to a public bind and through the
//! session to any other, and says a nonce that only the holder of the session can know
//! ([`exchange`]). Incoming channels compare their first bytes with it ([`desk`]). The connection
//! never reaches sshd, so that it costs the address that it seems to come from no penalty.
//!
//! A probe is evidence, not a verdict: a firewall, a router or a middlebox can stop it on a way
//! that users take. So where the way from outside fails, the port is tried from inside the proxy,
//! and the result says how much is known.

mod desk;
mod exchange;
mod judge;
mod routes;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use russh::{ChannelMsg, ChannelOpenFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::fault::Fault;
use super::handler::Gate;
use super::machine::Probe;
use super::tcp;
use super::timing::Timing;
use crate::lookup::lookup;
use crate::sshd::Address;
use exchange::{Exchange, Nonce, Step, Verdict};
use judge::{Doubt, Met, judge, unconnected};

pub(super) use desk::{Desk, Expected};
pub(super) use exchange::{Nonce as ProbeNonce, PADDING};
pub(super) use routes::{Reach, inside, reach, wants_other_family};

/// What a probe needs to know of its session.
pub(super) struct Probing {
    pub(super) handle: Arc<Handle<Gate>>,
    pub(super) desk: Desk,
    /// The proxy's name, and its address.
    pub(super) host: String,
    pub(super) peer: IpAddr,
    /// The largest segment of TCP that passes to the proxy, if that is known to be small.
    pub(super) segment: Option<u32>,
    /// The forward's bind address, as it was requested.
    pub(super) bind: String,
    /// The forward's port.
    pub(super) port: u16,
    /// Whether full packets are tried as well. In a path that drops them they end the session, so
    /// only where nobody uses it.
    pub(super) padded: bool,
    /// Where sshd is expected in this guest.
    pub(super) sshd: Address,
    pub(super) timing: Timing,
}

impl Probing {
    /// Runs one probe. It takes the deadlines of a dial and of an exchange for each of at most
    /// three addresses, and once more from inside.
    pub(super) async fn run(self) -> Probe {
        let others = self.other_addresses().await;
        match reach(&self.bind, self.peer, &others) {
            Reach::Proxy => judge(self.target(), None, self.inside().await, true),
            Reach::Everybody(addresses) => match self.outside(&addresses).await {
                Ok(()) => Probe::Answered,
                Err(Doubt::Other(fault @ (Fault::SshdDown { .. } | Fault::PathMtu { .. }))) => {
                    Probe::Failed(fault)
                }
                Err(doubt) => {
                    let exact = inside(&self.bind) == self.bind;
                    judge(self.target(), Some(doubt), self.inside().await, exact)
                }
            },
        }
    }

    /// An exchange with a nonce of its own: one that is late on the first way must not be taken
    /// for the second.
    fn exchange(&self) -> Result<Exchange, Doubt> {
        let nonce = Nonce::random().map_err(|error| Doubt::NoWay(error.to_string()))?;
        self.desk.begin(nonce);
        Ok(Exchange::new(nonce, self.padded))
    }

    fn target(&self) -> String {
        let bind = if self.bind.is_empty() {
            "*"
        } else {
            &self.bind
        };
        format!("port {} on {bind}", self.port)
    }

    /// All addresses of the proxy's name, where the forward listens on another family than the one
    /// that the session goes over.
    async fn other_addresses(&self) -> Vec<IpAddr> {
        if !wants_other_family(&self.bind, self.peer) {
            return Vec::new();
        }
        let found = timeout(self.timing.probe_deadline, lookup(&self.host));
        match found.await {
            Ok(Ok(addresses)) => addresses.iter().map(SocketAddr::ip).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// From outside, at the first address that answers; else what says most.
    async fn outside(&self, addresses: &[IpAddr]) -> Result<(), Doubt> {
        let mut met = Doubt::NoWay(format!(
            "{} has no address of the family that {} listens on",
            self.host,
            self.target()
        ));
        for address in addresses {
            let fits = !wants_other_family(&self.bind, *address);
            let next = self.outside_at(SocketAddr::new(*address, self.port));
            match next.await {
                Ok(()) => return Ok(()),
                // Only NAT64 makes an address of the wrong family lead there.
                Err(_) if !fits => {}
                Err(Doubt::NoWay(_)) if !matches!(met, Doubt::NoWay(_)) => {}
                Err(other) => met = other,
            }
        }
        Err(met)
    }

    async fn outside_at(&self, target: SocketAddr) -> Result<(), Doubt> {
        let mut exchange = self.exchange()?;
        let dialled = timeout(
            self.timing.probe_deadline,
            tcp::connect(target, self.segment),
        );
        let dialled = dialled.await.map_err(io::Error::from).flatten();
        let result = match dialled {
            Ok(mut stream) => {
                self.desk.sent();
                let talk = talk(&mut stream, &mut exchange, self.timing.probe_exchange);
                // Bytes that came before the deadline count, however the exchange ended.
                let _ = talk.await;
                self.weigh(&target.to_string(), &exchange)
            }
            Err(error) => Err(unconnected(target, &error)),
        };
        self.desk.end();
        result
    }

    /// From inside the proxy, as a user of `ssh -J` would.
    async fn inside(&self) -> Met {
        let host = inside(&self.bind);
        let target = format!("{host}:{} from inside the proxy", self.port);
        let mut exchange = match self.exchange() {
            Ok(exchange) => exchange,
            Err(doubt) => return Met::Doubt(doubt),
        };
        let talked = self.talk_inside(host, &mut exchange).await;
        let met = match talked {
            Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::AdministrativelyProhibited,
            )) => Met::Forbidden,
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) => {
                Met::Doubt(Doubt::Refused("the proxy itself can't connect".to_owned()))
            }
            Ok(()) | Err(_) => match self.weigh(&target, &exchange) {
                Ok(()) => Met::Answered,
                Err(doubt) => Met::Doubt(doubt),
            },
        };
        self.desk.end();
        met
    }

    async fn talk_inside(&self, host: &str, exchange: &mut Exchange) -> Result<(), russh::Error> {
        let limit = self.timing.probe_exchange;
        let port = u32::from(self.port);
        let opened = self
            .handle
            .channel_open_direct_tcpip(host, port, "127.0.0.1", 0);
        let Ok(opened) = timeout(limit, opened).await else {
            return Ok(());
        };
        let mut channel = opened?;
        self.desk.sent();
        channel.data(exchange.greeting().as_bytes()).await?;
        let mut deadline = Instant::now() + limit;
        let mut done = false;
        // To the end: the library leaks a channel that we close before the peer does.
        loop {
            let Ok(message) = timeout_at(deadline, channel.wait()).await else {
                if done {
                    return channel.close().await;
                }
                exchange.late();
                done = true;
                deadline = Instant::now() + limit;
                channel.eof().await?;
                continue;
            };
            match message {
                Some(ChannelMsg::Close) | None => return Ok(()),
                Some(ChannelMsg::Data { data }) if !done => match exchange.take(&data) {
                    Step::Read => {}
                    Step::Send(bytes) => {
                        deadline = Instant::now() + limit;
                        channel.data(&bytes[..]).await?;
                    }
                    Step::Done => {
                        done = true;
                        deadline = Instant::now() + limit;
                        channel.eof().await?;
                    }
                },
                Some(_) => {}
            }
        }
    }

    fn weigh(&self, target: &str, exchange: &Exchange) -> Result<(), Doubt> {
        let verdict = exchange.verdict();
        // sshd's banner came first, or nothing, and a channel that came meanwhile has said nothing
        // here yet: most likely it is this one, behind other traffic.
        if matches!(verdict, Verdict::Other(_) | Verdict::Silent) && self.desk.silence() {
            return Err(Doubt::Other(Fault::NotReachable {
                target: target.to_owned(),
                detail: "a connection arrived here, and the probe's bytes did not in time"
                    .to_owned(),
                refused: false,
            }));
        }
        verdict
            .fault(target, &self.sshd.to_string())
            .map_err(Doubt::Other)
    }
}

/// Says what is to be said, for `limit` until the proof has come and as long again for the
/// padding.
async fn talk(stream: &mut TcpStream, exchange: &mut Exchange, limit: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(exchange.greeting().as_bytes()).await?;
    let mut deadline = Instant::now() + limit;
    let mut buffer = [0; 2048];
    loop {
        let Ok(read) = timeout_at(deadline, stream.read(&mut buffer)).await else {
            exchange.late();
            return Ok(());
        };
        let length = read?;
        if length == 0 {
            return Ok(());
        }
        match exchange.take(buffer.get(..length).unwrap_or_default()) {
            Step::Read => {}
            Step::Send(bytes) => {
                deadline = Instant::now() + limit;
                stream.write_all(&bytes).await?;
            }
            Step::Done => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
