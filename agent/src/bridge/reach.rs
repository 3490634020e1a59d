//! The way of one connection to sshd: dialled, and while that fails, held.

use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::connection::Context;
use crate::host;
use crate::origin::Origin;
use crate::sshd::Sshd;
use crate::status::model::RefusalReason;

/// Between two dials while sshd does not answer: the first pause, doubling to the second.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a connection did not get to sshd.
pub(super) enum Unreached {
    /// The agent stops.
    Stopping,
    /// It is gone itself.
    Gone,
    /// We gave up, for this reason, in these words.
    Refused(RefusalReason, String),
}

impl Context {
    /// Connects to sshd, after `turn`; while that fails, holds the client.
    pub(super) async fn reach(
        &self,
        origin: &Origin,
        client: BorrowedFd<'_>,
        mut sshd: Sshd,
        turn: Duration,
    ) -> Result<TcpStream, Unreached> {
        if !turn.is_zero() {
            debug!(?turn, "came too fast; waiting for its turn");
            tokio::select! {
                () = hung_up(client) => return Err(Unreached::Gone),
                () = self.stop.cancelled() => return Err(Unreached::Stopping),
                () = sleep(turn) => {}
            }
        }
        let error = match self.dial(origin).await? {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        sshd.suspect();
        let refused = |error| {
            let words = format!("sshd does not answer on {}: {error}", self.sshd.address());
            Unreached::Refused(RefusalReason::SshdDown, words)
        };
        // Held connections would keep the descriptors that others need to get through.
        if is_out_of_descriptors(&error) {
            let words = format!("can't reach sshd: {error}");
            return Err(Unreached::Refused(RefusalReason::NoDescriptors, words));
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
            if let Ok(stream) = self.dial(origin).await? {
                // News for the others: it does.
                sshd.suspect();
                return Ok(stream);
            }
        }
    }

    /// Dials sshd once, until the agent stops.
    async fn dial(&self, origin: &Origin) -> Result<io::Result<TcpStream>, Unreached> {
        let dialled = self.sshd.dial(&self.dialer, origin);
        let dialled = self.stop.run_until_cancelled(dialled).await;
        dialled.ok_or(Unreached::Stopping)
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Waits until the client has hung up, or has at least said that it will say no more.
///
/// The client's first bytes, its own banner as a rule, stay unread.
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
