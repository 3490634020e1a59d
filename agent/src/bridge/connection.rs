//! One connection, from its arrival to its end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::Limits;
use super::listener::Arrival;
use super::reach::Unreached;
use super::store::{Slot, Store};
use crate::admission::Place;
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::relay::sockets::{End, Progress, Socket, Undelivered, pump};
use crate::sshd::{Sshd, UNANSWERED};
use crate::status::board::Slice;
use crate::status::model::{Bridge, OriginCount, RefusalReason};

/// How long a connection has lasted when it is worth to be kept: many don't, and each that is
/// costs the service manager a little work.
const LASTING: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) sshd: Sshd,
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

/// A connection that does not get in.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) client: OwnedFd,
    pub(super) origin: Origin,
    pub(super) reason: RefusalReason,
    /// What it is told.
    pub(super) words: String,
}

impl Refused {
    pub(super) fn new(arrival: Arrival, reason: RefusalReason, words: String) -> Self {
        Self {
            client: arrival.socket,
            origin: arrival.origin,
            reason,
            words,
        }
    }
}

/// Leads one connection to sshd, once it is its turn, and stays with it to its end. It keeps its
/// `place` as long. (A future that held both it and this one would carry this one twice.)
///
/// # Errors
/// Gives it back if there is no way to sshd.
pub(super) async fn serve(
    _place: Place,
    context: Arc<Context>,
    sshd: Sshd,
    arrival: Arrival,
    turn: Duration,
) -> Result<(), Refused> {
    let span = info_span!("bridge", origin = %arrival.origin);
    async {
        let _open = Open::new(&context.slice);
        // In a box as well, and a large one.
        let reached = context.reach(&arrival.origin, arrival.socket.as_fd(), sshd, turn);
        let result = Box::pin(reached).await;
        match result {
            Ok(stream) => context.begin(arrival, stream).await,
            Err(Unreached::Stopping) => return context.leave(arrival),
            Err(Unreached::Gone) => debug!("hung up before sshd answered"),
            Err(Unreached::Refused(reason, words)) => {
                return Err(Refused::new(arrival, reason, words));
            }
        }
        Ok(())
    }
    .instrument(span)
    .await
}

/// Goes on with a connection that a former agent has left when it was relayed already.
pub(super) async fn resume(
    _place: Place,
    context: Arc<Context>,
    arrival: Arrival,
    service: OwnedFd,
    undelivered: Undelivered,
    slot: Slot,
) -> Result<(), Refused> {
    let span = info_span!("bridge", origin = %arrival.origin);
    async {
        let _open = Open::new(&context.slice);
        let (client, service) = match pair(arrival.socket, service) {
            Ok(sockets) => sockets,
            Err(error) => {
                warn!(%error, "can't continue a connection");
                return Ok(());
            }
        };
        info!("connection continued");
        context.slice.update(|bridge| bridge.resumed += 1);
        let progress = Progress {
            undelivered,
            ..Progress::default()
        };
        // A resumed connection proves nothing of sshd now: its banner was read long ago.
        context
            .relay(client, service, progress, Some(slot), None)
            .await;
        Ok(())
    }
    .instrument(span)
    .await
}

fn pair(client: OwnedFd, service: OwnedFd) -> io::Result<(Socket, Socket)> {
    Ok((Socket::new(client)?, Socket::new(service)?))
}

impl Context {
    /// Leaves a connection that waits for sshd to the next agent, or else gives it back.
    fn leave(&self, arrival: Arrival) -> Result<(), Refused> {
        let slot = self.store.as_ref().and_then(Store::slot);
        let sockets = [arrival.socket.as_fd()];
        match slot.map(|slot| slot.hand_over(&sockets, &Undelivered::default())) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => {
                let words = "the agent stops".to_owned();
                Err(Refused::new(arrival, RefusalReason::Stopping, words))
            }
        }
    }

    async fn begin(&self, arrival: Arrival, stream: TcpStream) {
        let origin = arrival.origin;
        let seen_as = stream
            .local_addr()
            .map_or_else(|_| "UNKNOWN".to_owned(), |address| address.ip().to_string());
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
        let watch = Some(&self.sshd);
        self.relay(client, service, Progress::default(), slot, watch)
            .await;
    }

    async fn relay(
        &self,
        client: Socket,
        service: Socket,
        mut progress: Progress,
        slot: Option<Slot>,
        watch: Option<&Sshd>,
    ) {
        let began = Instant::now();
        let sockets = [client.as_fd(), service.as_fd()];
        let moved = Arc::clone(&progress.moved);
        let unmarked = AtomicU8::new(0);
        let mark = slot.as_ref().map_or(&unmarked, Slot::mark);
        let report = || {
            if let Some(sshd) = watch {
                sshd.moved(moved.inward(), moved.outward());
            }
        };
        let keep = async {
            // In a box: it is soon over, and would be carried along to the end.
            Box::pin(sleep(LASTING)).await;
            if let Some(slot) = &slot {
                slot.keep(&sockets);
            }
            if moved.outward() == 0 {
                Box::pin(sleep(UNANSWERED)).await;
            }
            report();
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
        if moved.outward() == 0 || began.elapsed() < LASTING {
            report();
        }
        info!(
            end,
            bytes_in = progress.moved.inward(),
            bytes_out = progress.moved.outward(),
            duration = ?Duration::from_millis(began.elapsed().as_millis() as u64),
            "connection closed"
        );
    }
}
