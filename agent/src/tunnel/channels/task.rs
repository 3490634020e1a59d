//! One connection's way to its service.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::super::evidence::Evidence;
use super::super::handler::Incoming;
use super::super::probe::{Desk, Expected, PADDING, ProbeNonce};
use super::unanswered::{Unanswered, answered};
use crate::admission::Place;
use crate::origin::{Origin, Party};
use crate::relay::channel::{self, Moved, Progress};
use crate::relay::{backlog::Backlog, dial::Dialer, outbox::Outbox};
use crate::sshd::{Address, Sshd, UNANSWERED};
use crate::status::board::Slice;
use crate::status::model::{OriginCount, RefusalReason, Tunnel};

/// How long a channel that arrives during a probe may stay silent before sshd is dialled for it:
/// a client that waits for the server's banner is served then. Clients of SSH speak at once
/// (RFC 4253, 4.2).
const FIRST_WORD: Duration = Duration::from_secs(2);

/// How long a probe's channel may take for the rest of what it has to say.
const LAST_WORD: Duration = Duration::from_secs(15);

/// A channel that is over a bound.
pub(super) struct Refused {
    pub(super) origin: Party,
    pub(super) reason: RefusalReason,
}

/// One channel's way to its service.
pub(super) struct Task {
    pub(super) dialer: Dialer,
    pub(super) address: Address,
    pub(super) origin: Origin,
    pub(super) slice: Slice<Tunnel>,
    pub(super) backlog: Backlog,
    pub(super) outbox: Outbox,
    /// Where traffic is evidence: on the way to sshd.
    pub(super) evidence: Option<Evidence>,
    /// It came the way that the forward is for.
    pub(super) proves: bool,
    /// The watch over sshd, where that is the service.
    pub(super) watch: Option<Sshd>,
    pub(super) desk: Desk,
}

impl Task {
    /// Leads one channel to its service. `expected` are the nonces that it may begin with.
    pub(super) async fn serve(
        self,
        incoming: Incoming,
        expected: Option<Expected>,
        place: Result<Place, Refused>,
    ) -> Result<(), Refused> {
        let Incoming {
            mut channel,
            reply,
            at: (_, port),
            ..
        } = incoming;
        let Some(expected) = expected else {
            let _place = match place {
                Ok(place) => place,
                Err(refused) => {
                    reply.reject(ChannelOpenFailure::ResourceShortage).await;
                    return Err(refused);
                }
            };
            match self.dial().await {
                Ok(service) => {
                    self.answered(port);
                    reply.accept().await;
                    self.relay(channel, service, None, 0).await;
                }
                Err(error) => {
                    self.unanswered(&error, port);
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            return Ok(());
        };
        // It may be a probe of this agent, which must not cost anybody a connection to sshd, and
        // for which there is always room.
        reply.accept().await;
        let mut first = None;
        if expected.soon {
            match timeout(FIRST_WORD, channel.wait()).await {
                Ok(Some(ChannelMsg::Data { data })) => match expected.find(&data) {
                    Some(nonce) => {
                        self.prove(channel, nonce).await;
                        return Ok(());
                    }
                    None => first = Some(data),
                },
                Ok(Some(ChannelMsg::Close) | None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(_) => self.desk.saw_silence(),
            }
        }
        let _place = match place {
            Ok(place) => place,
            Err(refused) => {
                let _ = channel.close().await;
                return Err(refused);
            }
        };
        let mut service = match self.dial().await {
            Ok(service) => service,
            Err(error) => {
                self.unanswered(&error, port);
                let _ = channel.close().await;
                return Ok(());
            }
        };
        let mut said = 0;
        if first.is_none() {
            first = listen(&mut channel, &mut service, &mut said).await;
            if let Some(nonce) = first.as_ref().and_then(|data| expected.find(data)) {
                drop(service);
                self.prove(channel, nonce).await;
                return Ok(());
            }
        }
        self.relay(channel, service, first, said).await;
        Ok(())
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        match &self.watch {
            Some(sshd) => sshd.dial(&self.dialer, &self.origin).await,
            None => self.address.dial(&self.dialer, &self.origin).await,
        }
    }

    /// A connection to this port of the proxy did not reach its service.
    fn unanswered(&self, error: &io::Error, port: u32) {
        warn!(address = %self.address, %error, "the service does not answer");
        match &self.watch {
            Some(sshd) => sshd.suspect(),
            None => self.slice.update(|tunnel| {
                let to = &self.address;
                Unanswered { to, port, error }.count(&mut tunnel.forwards);
            }),
        }
    }

    fn answered(&self, port: u32) {
        if self.watch.is_none() {
            self.slice
                .update(|tunnel| answered(&mut tunnel.forwards, &self.address, port));
        }
    }

    /// Relays after `first`, which the channel has said, and `said` bytes of the service, which it
    /// has been told.
    async fn relay(
        &self,
        channel: Channel<Msg>,
        service: TcpStream,
        first: Option<Bytes>,
        said: u64,
    ) {
        let seen_as = service
            .local_addr()
            .map_or_else(|_| "UNKNOWN".to_owned(), |local| local.ip().to_string());
        let _open = Open::new(&self.slice, &self.origin, &seen_as);
        info!(seen_as, to = %self.address, "opened");
        let since = Instant::now();
        let note = |moved| {
            if let Some(evidence) = &self.evidence {
                evidence.note(moved, self.proves);
            }
        };
        let progress = Progress::default();
        let pumped = channel::pump(
            channel,
            service,
            first,
            &self.backlog,
            &self.outbox,
            &progress,
            note,
        );
        let report = |moved: Moved| {
            if let Some(watch) = &self.watch {
                watch.moved(moved.inward, said + moved.outward);
            }
        };
        let early = async {
            Box::pin(sleep(UNANSWERED)).await;
            report(progress.moved());
            pending::<Infallible>().await
        };
        let moved = tokio::select! {
            moved = pumped => moved,
            never = early => match never {},
        };
        if said + moved.outward == 0 || since.elapsed() < UNANSWERED {
            report(moved);
        }
        info!(
            inward = moved.inward,
            outward = moved.outward,
            seconds = since.elapsed().as_secs(),
            "closed"
        );
    }

    /// Answers a probe of this agent.
    async fn prove(&self, mut channel: Channel<Msg>, nonce: ProbeNonce) {
        self.desk.arrived(nonce);
        let banner = match &self.watch {
            Some(watch) => watch.clone().banner().await,
            None => Err("this forward does not lead to sshd".to_owned()),
        };
        let sent = channel.data(nonce.proof(&banner).as_bytes()).await;
        debug!(?sent, "answered a probe");
        let rest = async {
            let mut padding = 0;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Data { data }) => {
                        padding += data.len();
                        if padding >= PADDING {
                            let _ = channel.data(&nonce.whole()[..]).await;
                            padding = 0;
                        }
                    }
                    // The peer closes first: what we close first, the library never forgets.
                    Some(ChannelMsg::Eof) => drop(channel.eof().await),
                    Some(ChannelMsg::Close) | None => return,
                    Some(_) => {}
                }
            }
        };
        if timeout(LAST_WORD, rest).await.is_err() {
            let _ = channel.close().await;
        }
    }
}

/// Passes on what the service says, until the channel says something: the first bytes of a probe
/// that is late are not for the service. None where either of them has ended. `said` counts the
/// bytes of the service.
async fn listen(
    channel: &mut Channel<Msg>,
    service: &mut TcpStream,
    said: &mut u64,
) -> Option<Bytes> {
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            message = channel.wait() => match message {
                Some(ChannelMsg::Data { data }) => return Some(data),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => return None,
                Some(_) => {}
            },
            read = service.read(&mut buffer) => {
                let length = read.ok().filter(|length| *length > 0)?;
                let words = buffer.get(..length).unwrap_or_default();
                channel.data(words).await.ok()?;
                *said += length as u64;
            }
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
