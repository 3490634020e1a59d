//! When sshd is checked, and what becomes of a check.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fault::{CheckError, Reason};
use super::{State, listening, read_banner};
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, SshdState};

/// After this time without a word, the status says so. TCP wrappers hold a connection for 5 s
/// before they close it, which is another fault.
pub const SILENT: Duration = Duration::from_secs(6);

/// When a check is given up: sshd ends a connection after its `LoginGraceTime` of 120 s by default
/// (sshd_config(5)).
pub(super) const PATIENCE: Duration = Duration::from_secs(130);

/// When to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// While nobody listens, which costs sshd nothing: the first pause, the longest, and the
    /// longest after [`Timing::hopeful`].
    pub(super) absent: (Duration, Duration, Duration),
    /// For how long an sshd that is not there is expected any moment.
    pub(super) hopeful: Duration,
    /// After an sshd that took the connection and did not introduce itself: the first pause, and
    /// the longest.
    pub(super) wrong: (Duration, Duration),
    /// After an answer that may be a passing mood of sshd.
    pub(super) doubtful: Duration,
    /// Between two looks at who listens, while all is well.
    pub(super) steady: Duration,
    /// Between a check that found all well and the next one for a suspicion: at first, and the
    /// longest.
    pub(super) suspicion: (Duration, Duration),
}

impl Timing {
    pub(super) const DEFAULT: Self = Self {
        absent: (
            Duration::from_millis(100),
            Duration::from_millis(750),
            Duration::from_secs(5),
        ),
        hopeful: Duration::from_secs(600),
        wrong: (Duration::from_secs(1), Duration::from_secs(30)),
        doubtful: Duration::from_secs(5),
        steady: Duration::from_secs(60),
        suspicion: (Duration::from_secs(1), Duration::from_secs(60)),
    };
}

/// Looks at sshd now and then, and publishes what it sees.
#[derive(Debug)]
pub struct Watcher {
    pub(super) address: SocketAddr,
    pub(super) dialer: Dialer,
    pub(super) slice: Slice<model::Sshd>,
    pub(super) state: watch::Sender<State>,
    pub(super) suspect: Arc<Notify>,
    pub(super) timing: Timing,
}

impl Watcher {
    /// Watches until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(self) {
        let timing = self.timing;
        let mut doubts: u32 = 0;
        let mut wrong = timing.wrong.0;
        let mut suspicion = timing.suspicion.0;
        let mut absent = None;
        loop {
            let was_ready = self.state.borrow().is_ready();
            match self.check().await {
                Ok(()) => {
                    // A suspicion that comes to nothing makes the next one wait longer.
                    suspicion = if was_ready && doubts == 0 {
                        (suspicion * 2).min(timing.suspicion.1)
                    } else {
                        timing.suspicion.0
                    };
                    doubts = 0;
                    wrong = timing.wrong.0;
                    self.rest(suspicion).await;
                }
                Err(error) if was_ready && error.may_pass(doubts) => {
                    debug!(%error, "sshd turned a check away; asking again");
                    doubts += 1;
                    sleep(timing.doubtful).await;
                }
                Err(error) => {
                    self.down(&error);
                    if error.is_absence() {
                        // A connection that the kernel refuses costs sshd nothing.
                        let absence = absent.get_or_insert_with(|| Absence::new(timing));
                        tokio::select! {
                            () = sleep(absence.pause()) => {}
                            () = self.suspect.notified() => sleep(timing.absent.0).await,
                        }
                        continue;
                    }
                    sleep(wrong).await;
                    wrong = (wrong * 2).min(timing.wrong.1);
                }
            }
            absent = None;
        }
    }

    /// One check, which takes as long as sshd takes.
    async fn check(&self) -> Result<(), CheckError> {
        let began = Instant::now();
        let mut stream = connect(self.address, &self.dialer).await?;
        let apart = self.dialer.is_own(&stream, &Origin::Check);
        let error = |reason| CheckError {
            address: self.address,
            reason,
        };
        let read = {
            let mut reading = pin!(read_banner(&mut stream, PATIENCE));
            tokio::select! {
                read = &mut reading => read,
                () = sleep(SILENT) => {
                    self.down(&error(Reason::Silent));
                    reading.await
                }
            }
        };
        let banner = read.map_err(error)?;
        take_leave(&stream);
        self.ready(banner, began.elapsed(), apart);
        Ok(())
    }

    /// Returns when there is a reason for another check, `pause` after the last one at the
    /// earliest.
    async fn rest(&self, pause: Duration) {
        let checked = Instant::now();
        loop {
            tokio::select! {
                () = self.suspect.notified() => {
                    sleep_until(checked + pause).await;
                    return;
                }
                () = sleep(self.timing.steady) => {
                    let address = self.address;
                    // The list has a line for each connection of this machine.
                    let seen = spawn_blocking(move || listening::look(address)).await;
                    if seen.ok().flatten() == Some(false) {
                        return;
                    }
                }
            }
        }
    }

    fn ready(&self, banner: String, latency: Duration, apart: bool) {
        let before = self.state.send_replace(State::Ready(banner.clone()));
        if !before.is_ready() {
            info!(address = %self.address, banner, "sshd answers");
        }
        self.slice.update(|sshd| {
            sshd.origins_apart = Some(apart);
            sshd.state = SshdState::Ready;
            sshd.banner = Some(banner);
            // Tenths: it is for people, and an idle guest should not change all the time.
            sshd.latency_ms = Some((latency.as_secs_f64() * 10_000.0).round() / 10.0);
            sshd.fault = None;
        });
    }

    fn down(&self, error: &CheckError) {
        let fault = model::Fault::after(self.slice.get().fault.as_ref(), error);
        if fault.count == 1 {
            warn!(code = fault.code, "{}", fault.message);
        }
        self.slice.update(|sshd| {
            sshd.state = SshdState::Waiting;
            sshd.latency_ms = None;
            sshd.fault = Some(fault.clone());
        });
        self.state.send_replace(State::Down(fault));
    }
}

/// The pauses between two dials while nobody listens.
#[derive(Debug)]
pub(super) struct Absence {
    pub(super) timing: Timing,
    began: Instant,
    next: Duration,
}

impl Absence {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            began: Instant::now(),
            next: timing.absent.0,
        }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let (_, soon, late) = self.timing.absent;
        let longest = if self.began.elapsed() < self.timing.hopeful {
            soon
        } else {
            late
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(longest);
        pause
    }
}

async fn connect(address: SocketAddr, dialer: &Dialer) -> Result<TcpStream, CheckError> {
    let reason = |error| CheckError {
        address,
        reason: Reason::Down(error),
    };
    dialer.dial(address, &Origin::Check).await.map_err(reason)
}

/// A client that says nothing is an error in sshd's log. One that introduces itself and leaves is
/// one line at INFO; a message of SSH_MSG_DISCONNECT would be two. The send buffer of a new
/// connection has room for it.
fn take_leave(stream: &TcpStream) {
    let farewell = concat!("SSH-2.0-vmagent_", env!("CARGO_PKG_VERSION"), "\r\n");
    let _ = stream.try_write(farewell.as_bytes());
}
