//! One connection, from its arrival to its end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::Limits;
use super::listener::Arrival;
use super::store::{Left, Slot, Store};
use crate::host;
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::relay::sockets::{End, Progress, Socket, Undelivered, pump};
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model::{Bridge, OriginCount};

/// Between two dials while sshd does not answer: the first pause, doubling to the second.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a connection has lasted when it is worth to be kept: many don't, and each that is
/// costs the service manager a little work.
const LASTING: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) service: SocketAddr,
    pub(super) dialer: Dialer,
    pub(super) slice: Slice<Bridge>,
    pub(super) limits: Limits,
    /// Where connections outlive the agent.
    pub(super) store: Option<Arc<Store>>,
    /// Places for connections that wait for sshd.
    pub(super) places: Semaphore,
    /// Nobody waits for sshd any more.
    pub(super) stop: CancellationToken,
    /// Nothing is relayed any more.
    pub(super) cut: CancellationToken,
}

/// Counts a connection as open for as long as it lives.
struct Open<'a>(&'a Slice<Bridge>);

impl<'a> Open<'a> {
    fn new(slice: &'a Slice<Bridge>) -> Self {
        slice.update(|bridge| bridge.open += 1);
        Self(slice)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0
            .update(|bridge| bridge.open = bridge.open.saturating_sub(1));
    }
}

/// Leads one connection to sshd and stays with it to its end.
pub(super) async fn serve(context: Arc<Context>, sshd: Sshd, arrival: Arrival) {
    let span = info_span!("bridge", origin = %arrival.origin);
    async {
        let _open = Open::new(&context.slice);
        // In a box of its own: it is large, short-lived, and would be carried along to the end.
        let reached = context.reach(&arrival.origin, arrival.socket.as_fd(), sshd);
        let result = Box::pin(reached).await;
        match result {
            Ok(stream) => context.begin(arrival, stream).await,
            Err(Unreached::Stopping) => context.leave(arrival.socket),
            Err(Unreached::Gone) => debug!("hung up before sshd answered"),
            Err(Unreached::Refused(why)) => {
                info!(why, "turned a connection away");
                context.slice.update(|bridge| bridge.refused += 1);
                turn_away(arrival.socket, &why);
            }
        }
    }
    .instrument(span)
    .await;
}

/// Goes on with a connection that a former agent has left.
pub(super) async fn resume(context: Arc<Context>, sshd: Sshd, left: Left) {
    let Ok(arrival) = Arrival::again(left.origin) else {
        return debug!("a connection has ended while no agent ran");
    };
    let Some(service) = left.service else {
        // It waits for sshd, as if it had just come.
        drop(left.slot);
        return serve(context, sshd, arrival).await;
    };
    let span = info_span!("bridge", origin = %arrival.origin);
    async {
        let _open = Open::new(&context.slice);
        let (client, service) = match pair(arrival.socket, service) {
            Ok(sockets) => sockets,
            Err(error) => return warn!(%error, "can't continue a connection"),
        };
        info!("connection continued");
        context.slice.update(|bridge| bridge.resumed += 1);
        let progress = Progress {
            undelivered: left.undelivered,
            ..Progress::default()
        };
        let slot = Some(left.slot);
        context.relay(client, service, progress, slot).await;
    }
    .instrument(span)
    .await;
}

fn pair(client: OwnedFd, service: OwnedFd) -> io::Result<(Socket, Socket)> {
    Ok((Socket::new(client)?, Socket::new(service)?))
}

/// Why a connection did not get to sshd.
enum Unreached {
    /// The agent stops.
    Stopping,
    /// It is gone itself.
    Gone,
    /// We gave up, for this reason.
    Refused(String),
}

impl Context {
    /// Connects to sshd; while that fails, holds the client.
    async fn reach(
        &self,
        origin: &Origin,
        client: BorrowedFd<'_>,
        mut sshd: Sshd,
    ) -> Result<TcpStream, Unreached> {
        let service = self.service;
        let error = match self.dialer.dial(service, origin).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        sshd.suspect();
        let refused =
            |error| Unreached::Refused(format!("sshd does not answer on {service}: {error}"));
        // Held connections would keep the descriptors that others need to get through.
        if is_out_of_descriptors(&error) {
            return Err(Unreached::Refused(format!("can't reach sshd: {error}")));
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(refused(error));
        };
        debug!(%error, "sshd does not answer; holding the connection");
        let deadline = Instant::now() + self.limits.hold;
        let gone = hung_up(client);
        tokio::pin!(gone);
        let mut pause = REDIAL.0;
        loop {
            tokio::select! {
                () = &mut gone => return Err(Unreached::Gone),
                () = self.stop.cancelled() => return Err(Unreached::Stopping),
                () = sleep_until(deadline) => return Err(refused(error)),
                () = sshd.becomes_ready() => pause = REDIAL.0,
                () = sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)) => {
                    pause = (pause * 2).min(REDIAL.1);
                }
            }
            if let Ok(stream) = self.dialer.dial(service, origin).await {
                // News for the others: it does.
                sshd.suspect();
                return Ok(stream);
            }
        }
    }

    /// Leaves a connection that waits for sshd to the next agent.
    fn leave(&self, client: OwnedFd) {
        let slot = self.store.as_ref().and_then(Store::slot);
        let sockets = [client.as_fd()];
        match slot.map(|slot| slot.hand_over(&sockets, &Undelivered::default())) {
            Some(Ok(())) => {}
            Some(Err(_)) | None => turn_away(client, "the agent stops"),
        }
    }

    async fn begin(&self, arrival: Arrival, stream: TcpStream) {
        let origin = arrival.origin;
        let seen_as = stream
            .local_addr()
            .map_or_else(|_| String::new(), |address| address.ip().to_string());
        let sockets = stream
            .into_std()
            .and_then(|stream| pair(arrival.socket, stream.into()));
        let (client, service) = match sockets {
            Ok(sockets) => sockets,
            Err(error) => return warn!(%error, "can't relay a connection"),
        };
        info!(seen_as, "connection opened");
        self.slice.update(|bridge| {
            bridge.accepted += 1;
            OriginCount::add(&mut bridge.origins, origin.to_string(), seen_as);
        });
        let slot = self.store.as_ref().and_then(Store::slot);
        self.relay(client, service, Progress::default(), slot).await;
    }

    async fn relay(
        &self,
        client: Socket,
        service: Socket,
        mut progress: Progress,
        slot: Option<Slot>,
    ) {
        let began = Instant::now();
        let sockets = [client.as_fd(), service.as_fd()];
        let unmarked = AtomicU8::new(0);
        let mark = slot.as_ref().map_or(&unmarked, Slot::mark);
        let keep = async {
            sleep(LASTING).await;
            if let Some(slot) = &slot {
                slot.keep(&sockets);
            }
            pending::<Infallible>().await
        };
        // Not run_until_cancelled: it would carry the pump twice.
        let end = tokio::select! {
            end = pump(&client, &service, &mut progress, mark, self.limits.linger) => match end {
                End::Closed => "closed".to_owned(),
                End::Stalled => "half-closed and stalled".to_owned(),
                End::Broken(error) => error.to_string(),
            },
            never = keep => match never {},
            () = self.cut.cancelled() => {
                let undelivered = &progress.undelivered;
                if let Some(slot) = slot && slot.hand_over(&sockets, undelivered).is_ok() {
                    return info!(
                        undelivered_in = undelivered.inward.bytes().len(),
                        undelivered_out = undelivered.outward.bytes().len(),
                        "connection left to the next agent"
                    );
                }
                "the agent stops".to_owned()
            }
        };
        info!(
            end,
            bytes_in = progress.moved.inward(),
            bytes_out = progress.moved.outward(),
            duration = ?Duration::from_millis(began.elapsed().as_millis() as u64),
            "connection closed"
        );
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Waits until the client has hung up, or has at least said that it will say no more.
///
/// What it has already said, its own banner as a rule, stays unread.
async fn hung_up(client: BorrowedFd<'_>) {
    // A descriptor of its own: its readiness is used up here, and the pump starts afresh.
    if let Ok(watched) = client.try_clone_to_owned().and_then(host::watch) {
        while let Ok(mut ready) = watched.readable().await {
            if ready.ready().is_read_closed() {
                return;
            }
            ready.clear_ready();
        }
    }
    // Can't be watched: the deadline remains.
    pending().await
}

/// Says why in a line, which a server may send before its version (RFC 4253, 4.2), and closes.
pub(super) fn turn_away(client: OwnedFd, why: &str) {
    let line = format!("vmagent: {why}\r\n");
    let fd = client.as_raw_fd();
    let say = || -> io::Result<()> {
        send(fd, line.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
        shutdown(fd, Shutdown::Write)?;
        // A close with something unread is a reset, which may overtake the line.
        recv(fd, &mut [0; 1024], MsgFlags::empty())?;
        Ok(())
    };
    // A client that does not listen loses nothing.
    let _ = say();
}
