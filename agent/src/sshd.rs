//! Watches the local sshd: dials it as anybody would, and reads how it introduces itself.
//!
//! Both ways in lead to it, so neither is called ready before its banner has been read. The
//! check has a source address of its own ([`Origin::Check`]): it costs nobody else a penalty.

mod banner;
mod fault;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, SshdState};

pub use banner::{Introduction, introduction};
pub use fault::{CheckError, Reason};

/// From the connect to the whole banner.
const DEADLINE: Duration = Duration::from_secs(5);

/// When to look.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// After the first check without an answer; doubles from there.
    retry: Duration,
    /// The most that it doubles to.
    retry_cap: Duration,
    /// While all is well.
    steady: Duration,
    /// After an answer that may be a passing mood of sshd.
    doubtful: Duration,
    /// The least time between two checks, however often others suspect something.
    least: Duration,
}

impl Timing {
    const DEFAULT: Self = Self {
        retry: Duration::from_millis(100),
        retry_cap: Duration::from_millis(750),
        steady: Duration::from_secs(60),
        doubtful: Duration::from_secs(5),
        least: Duration::from_secs(1),
    };
}

/// What the last checks came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The first check has not come back.
    Unknown,
    /// Its banner has been read.
    Ready,
    /// It does not answer as an sshd.
    Down(model::Fault),
}

/// What the other parts hold of the watch over sshd.
#[derive(Debug, Clone)]
pub struct Sshd {
    state: watch::Receiver<State>,
    suspect: Arc<Notify>,
}

impl Sshd {
    /// What the last checks came to.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until [`Self::state`] has changed; for ever once nobody watches any more.
    ///
    /// Can be cancelled at any time.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it becomes ready anew: being ready now is no news.
    ///
    /// Can be cancelled at any time.
    pub async fn becomes_ready(&mut self) {
        loop {
            self.changed().await;
            if *self.state.borrow_and_update() == State::Ready {
                return;
            }
        }
    }

    /// Says that it did not answer somebody, so that it is looked at now.
    pub fn suspect(&self) {
        self.suspect.notify_one();
    }
}

/// Looks at sshd now and then, and publishes what it sees.
#[derive(Debug)]
pub struct Watcher {
    address: SocketAddr,
    dialer: Dialer,
    slice: Slice<model::Sshd>,
    state: watch::Sender<State>,
    suspect: Arc<Notify>,
    timing: Timing,
}

/// The watch over the sshd at `address`, and what the others hold of it.
#[must_use]
pub fn watch(address: SocketAddr, dialer: Dialer, slice: Slice<model::Sshd>) -> (Watcher, Sshd) {
    let (sender, receiver) = watch::channel(State::Unknown);
    let suspect = Arc::new(Notify::new());
    let sshd = Sshd {
        state: receiver,
        suspect: Arc::clone(&suspect),
    };
    let watcher = Watcher {
        address,
        dialer,
        slice,
        state: sender,
        suspect,
        timing: Timing::DEFAULT,
    };
    (watcher, sshd)
}

impl Watcher {
    /// Watches until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(self) {
        let timing = self.timing;
        let mut retry = timing.retry;
        let mut doubts: u32 = 0;
        loop {
            let began = Instant::now();
            let result = check(self.address, &self.dialer).await;
            let was_ready = *self.state.borrow() == State::Ready;
            let pause = match result {
                Ok(banner) => {
                    doubts = 0;
                    retry = timing.retry;
                    self.ready(banner, began.elapsed());
                    timing.steady
                }
                Err(error) if was_ready && error.may_pass(doubts) => {
                    debug!(%error, "sshd turned a check away; asking again");
                    doubts += 1;
                    timing.doubtful
                }
                Err(error) => {
                    self.down(&error);
                    let pause = retry;
                    retry = (retry * 2).min(timing.retry_cap);
                    pause
                }
            };
            let now = Instant::now();
            tokio::select! {
                () = sleep_until(now + pause) => {}
                () = self.suspect.notified() => sleep_until(now + pause.min(timing.least)).await,
            }
        }
    }

    fn ready(&self, banner: String, latency: Duration) {
        if self.state.send_replace(State::Ready) != State::Ready {
            info!(address = %self.address, banner, "sshd answers");
        }
        self.slice.update(|sshd| {
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

/// Connects and reads the banner, which is returned.
///
/// # Errors
/// Why no banner came.
pub async fn check(address: SocketAddr, dialer: &Dialer) -> Result<String, CheckError> {
    let error = |reason| CheckError { address, reason };
    let mut stream = dialer
        .dial(address, &Origin::Check)
        .await
        .map_err(|e| error(Reason::Down(e)))?;
    let banner = read_banner(&mut stream, DEADLINE).await.map_err(error)?;
    // One that says nothing is an error in sshd's log; one that introduces itself and leaves is
    // not worth a line above INFO. It has nothing to do with whether the check went well, and
    // the send buffer of a new connection has room for it.
    let farewell = concat!("SSH-2.0-vmagent_", env!("CARGO_PKG_VERSION"), "\r\n");
    let _ = stream.try_write(farewell.as_bytes());
    Ok(banner)
}

/// Reads how the server at the other end of `stream` introduces itself, for `within` at most.
///
/// # Errors
/// What came in place of a banner.
pub async fn read_banner(
    stream: &mut (impl AsyncRead + Unpin),
    within: Duration,
) -> Result<String, Reason> {
    let deadline = Instant::now() + within;
    let mut received = Vec::new();
    loop {
        match introduction(&received) {
            Introduction::Banner(banner) => return Ok(banner),
            Introduction::NotSsh(said) => return Err(Reason::NotSsh(said)),
            Introduction::Incomplete => {}
        }
        // A reset is a close as well: sshd does either to those it turns away.
        match timeout_at(deadline, stream.read_buf(&mut received)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Err(Reason::NoBanner(banner::excerpt(&received))),
            Err(_) if received.is_empty() => return Err(Reason::Silent),
            Err(_) => return Err(Reason::NotSsh(banner::excerpt(&received))),
        }
    }
}

#[cfg(test)]
mod tests;
