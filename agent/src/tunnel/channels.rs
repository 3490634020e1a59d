//! The connections that arrive through the tunnel, each led to the service that it is for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, info, info_span, warn};

use super::handler::Incoming;
use super::probe::{Desk, Nonce};
use crate::admission::{Admission, Bounds, Place};
use crate::host;
use crate::metadata::document::RemoteForward;
use crate::origin::{Origin, Party};
use crate::refusals::Refusals;
use crate::relay::{backlog::Backlog, channel, dial::Dialer};
use crate::sshd;
use crate::status::board::Slice;
use crate::status::model::{OriginCount, RefusalCount, RefusalReason, Tunnel};

/// How long a channel that arrives during a probe may stay silent before it is taken for a
/// client that waits for the server's banner. Clients of SSH speak at once (RFC 4253, 4.2).
const FIRST_WORD: Duration = Duration::from_secs(2);

/// What one session takes on, in all and of one origin. A stock proxy has descriptors for about a
/// thousand channels: one user of its public port does not get all of them. There is no bound on
/// the rate: a forward may lead to a web server, and sshd has bounds of its own for each origin.
const MOST: usize = 2048;
const OF_ORIGIN: usize = 768;

/// Between two lines of the journal that sum refusals up.
const SUMMARY: Duration = Duration::from_secs(60);

/// What a forward leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Sshd,
    Other(SocketAddr),
}

/// The channels of one session.
pub(super) struct Channels {
    listening: HashMap<(String, u16), Service>,
    admission: Admission,
    open: JoinSet<Result<(), Refused>>,
    refusals: Refusals,
    summed_up: Instant,
    dialer: Dialer,
    sshd: SocketAddr,
    desk: Desk,
    slice: Slice<Tunnel>,
    backlog: Backlog,
}

impl Channels {
    pub(super) fn new(dialer: Dialer, sshd: SocketAddr, desk: Desk, slice: Slice<Tunnel>) -> Self {
        Self {
            listening: HashMap::new(),
            admission: Admission::new(bounds()),
            open: JoinSet::new(),
            refusals: Refusals::default(),
            summed_up: Instant::now(),
            dialer,
            sshd,
            desk,
            slice,
            backlog: Backlog::default(),
        }
    }

    /// From now on, what arrives at `at` on the proxy goes to `service`.
    pub(super) fn add(&mut self, at: &RemoteForward, service: Service) {
        self.listening.insert((at.bind.clone(), at.port), service);
    }

    /// Where the proxy listens for us.
    pub(super) fn listening(&self) -> Vec<(String, u16)> {
        self.listening.keys().cloned().collect()
    }

    /// Takes one channel up, or turns it away.
    pub(super) fn open(&mut self, incoming: Incoming) {
        let Some(service) = self.service(&incoming.at) else {
            warn!(at = ?incoming.at, "the proxy opened a channel for a forward we did not ask for");
            return;
        };
        let origin = origin(&incoming.from);
        let (address, expected) = match service {
            Service::Sshd => (self.sshd, self.desk.expected()),
            Service::Other(address) => (address, None),
        };
        let party = origin.party();
        let admitted = self.admission.admit(&party, Instant::now().into_std());
        let place = admitted.map(|(place, _)| place).map_err(|reason| Refused {
            origin: party,
            reason,
        });
        let seen_as = self.dialer.source(address, &origin);
        let span = info_span!("tunnel", %origin);
        let task = Task {
            dialer: self.dialer.clone(),
            address,
            origin,
            seen_as: seen_as.map_or_else(|| "this guest".to_owned(), |source| source.to_string()),
            slice: self.slice.clone(),
            backlog: self.backlog.clone(),
        };
        self.open
            .spawn(task.serve(incoming, expected, place).instrument(span));
    }

    /// Waits until a channel has ended, for ever if there is none; cancelling it loses nothing.
    pub(super) async fn reap(&mut self) {
        match self.open.join_next().await {
            Some(Ok(Err(refused))) => self.refused(&refused),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    fn refused(&mut self, refused: &Refused) {
        let Refused { origin, reason } = refused;
        if self.refusals.first_of(origin, *reason) {
            warn!(%origin, %reason, "refused a connection");
        }
        if self.summed_up.elapsed() >= SUMMARY
            && let Some(summary) = self.refusals.summary()
        {
            warn!("refused connections: {summary}");
            self.summed_up = Instant::now();
        }
        self.slice.update(|tunnel| {
            tunnel.refused += 1;
            RefusalCount::add(&mut tunnel.refusals, origin, *reason);
        });
    }

    /// Whether no channel is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Waits until all channels have ended.
    pub(super) async fn drain(&mut self) {
        while self.open.join_next().await.is_some() {}
    }

    /// The proxy names the bind address as it was asked for; if it says it in other words, the
    /// port tells, as long as it is used once only.
    fn service(&self, at: &(String, u32)) -> Option<Service> {
        let port = u16::try_from(at.1).ok()?;
        if let Some(service) = self.listening.get(&(at.0.clone(), port)) {
            return Some(*service);
        }
        let mut same_port = self
            .listening
            .iter()
            .filter(|((_, listening), _)| *listening == port);
        let (_, service) = same_port.next()?;
        same_port.next().is_none().then_some(*service)
    }
}

/// Where this process may open little, most of it is for the bridge.
fn bounds() -> Bounds {
    let total = MOST.min(host::descriptor_limit() / 8);
    Bounds {
        total,
        per_origin: OF_ORIGIN.min(total.div_ceil(2)),
        rate: None,
    }
}

fn origin((address, port): &(String, u32)) -> Origin {
    match address.parse() {
        Ok(address) => Origin::Client {
            address,
            port: u16::try_from(*port).unwrap_or_default(),
        },
        Err(_) => Origin::Named(address.clone()),
    }
}

/// A channel that is over a bound.
struct Refused {
    origin: Party,
    reason: RefusalReason,
}

/// One channel's way to its service.
struct Task {
    dialer: Dialer,
    address: SocketAddr,
    origin: Origin,
    seen_as: String,
    slice: Slice<Tunnel>,
    backlog: Backlog,
}

impl Task {
    async fn serve(
        self,
        incoming: Incoming,
        expected: Option<Nonce>,
        place: Result<Place, Refused>,
    ) -> Result<(), Refused> {
        let Incoming {
            mut channel, reply, ..
        } = incoming;
        let Some(nonce) = expected else {
            let _place = match place {
                Ok(place) => place,
                Err(refused) => {
                    reply.reject(ChannelOpenFailure::ResourceShortage).await;
                    return Err(refused);
                }
            };
            match self.dialer.dial(self.address, &self.origin).await {
                Ok(service) => {
                    reply.accept().await;
                    self.relay(channel, service, None).await;
                }
                Err(error) => {
                    warn!(address = %self.address, %error, "the service does not answer");
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            return Ok(());
        };
        // It may be our own probe, which must not cost anybody a connection to sshd, and for which
        // there is always room.
        reply.accept().await;
        let first = match timeout(FIRST_WORD, channel.wait()).await {
            Ok(Some(ChannelMsg::Data { data })) if nonce.opens(&data) => {
                self.prove(channel, nonce).await;
                return Ok(());
            }
            Ok(Some(ChannelMsg::Data { data })) => Some(data),
            Ok(Some(ChannelMsg::Close) | None) => return Ok(()),
            Ok(Some(_)) | Err(_) => None,
        };
        let _place = match place {
            Ok(place) => place,
            Err(refused) => {
                let _ = channel.close().await;
                return Err(refused);
            }
        };
        match self.dialer.dial(self.address, &self.origin).await {
            Ok(service) => self.relay(channel, service, first).await,
            Err(error) => {
                warn!(address = %self.address, %error, "the service does not answer");
                let _ = channel.close().await;
            }
        }
        Ok(())
    }

    async fn relay(&self, channel: Channel<Msg>, service: TcpStream, first: Option<Bytes>) {
        let _open = Open::new(&self.slice, &self.origin, &self.seen_as);
        info!(seen_as = %self.seen_as, to = %self.address, "opened");
        let since = Instant::now();
        let moved = channel::pump(channel, service, first, &self.backlog).await;
        info!(
            inward = moved.inward,
            outward = moved.outward,
            seconds = since.elapsed().as_secs(),
            "closed"
        );
    }

    /// Answers our own probe.
    async fn prove(&self, mut channel: Channel<Msg>, nonce: Nonce) {
        let banner = sshd::check(self.address, &self.dialer)
            .await
            .map_err(|e| e.to_string());
        let answer = nonce.answer(&banner);
        let sent = channel.data(answer.as_bytes()).await;
        debug!(?sent, "answered a probe");
        let _ = channel.eof().await;
        // The peer closes first: what we close first, the library never forgets.
        let closed = timeout(FIRST_WORD, async {
            while !matches!(channel.wait().await, Some(ChannelMsg::Close) | None) {}
        });
        if closed.await.is_err() {
            let _ = channel.close().await;
        }
    }
}

/// Counts a connection in the status for as long as it is open.
struct Open(Slice<Tunnel>);

impl Open {
    fn new(slice: &Slice<Tunnel>, origin: &Origin, seen_as: &str) -> Self {
        let party = match origin {
            Origin::Client { address, .. } => address.to_string(),
            Origin::Cid(_) | Origin::Unix | Origin::Named(_) | Origin::Check => origin.to_string(),
        };
        slice.update(|tunnel| {
            tunnel.open += 1;
            tunnel.accepted += 1;
            OriginCount::add(&mut tunnel.origins, party, seen_as.to_owned());
        });
        Self(slice.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .update(|tunnel| tunnel.open = tunnel.open.saturating_sub(1));
    }
}
