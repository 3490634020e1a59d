//! Watches the local sshd: dials it as anybody would, and reads how it introduces itself.
//!
//! Both ways in lead to it, so neither is called ready before its banner has been read. The
//! check has a source address of its own ([`Origin::Check`](crate::origin::Origin::Check)): it costs nobody else a penalty.
//!
//! A check costs sshd a process and a line in its log, so there is never more than one, and none
//! without a reason: at the start, after one that failed, and when somebody was not answered. One
//! that is connected waits as long as sshd itself would, since a second one would only make a slow
//! sshd slower. In between, the kernel's list of listening sockets is looked at each minute.

mod banner;
mod fault;
mod listening;
mod watcher;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model;

pub use banner::{Introduction, introduction};
pub use fault::{CheckError, Reason};
use watcher::Timing;
pub use watcher::{SILENT, Watcher};

/// How long a probe of the tunnel waits for the first check to end.
const FIRST: Duration = Duration::from_secs(5);

/// What the last checks came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The first check has not come back.
    Unknown,
    /// This banner has been read.
    Ready(String),
    /// It does not answer as an sshd.
    Down(model::Fault),
}

impl State {
    /// Whether its banner has been read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
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
            if self.state.borrow_and_update().is_ready() {
                return;
            }
        }
    }

    /// Says that it did not answer somebody, or answers again, so that it is checked soon.
    pub fn suspect(&self) {
        self.suspect.notify_one();
    }

    /// Its banner, as far as is known now. It makes no check; the first one is waited for.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn banner(&mut self) -> Result<String, String> {
        if self.state() == State::Unknown {
            let _ = timeout(FIRST, self.changed()).await;
        }
        match self.state() {
            State::Ready(banner) => Ok(banner),
            State::Down(fault) => Err(fault.message),
            State::Unknown => Err("it has not answered yet".to_owned()),
        }
    }
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

/// Reads how the server at the other end of `stream` introduces itself, for `within` at most.
///
/// # Errors
/// What came in place of a banner.
pub async fn read_banner(
    stream: &mut (impl AsyncRead + Unpin),
    within: Duration,
) -> Result<String, Reason> {
    let began = Instant::now();
    let mut received = Vec::new();
    loop {
        match introduction(&received) {
            Introduction::Banner(banner) => return Ok(banner),
            Introduction::NotSsh(said) => return Err(Reason::NotSsh(said)),
            Introduction::Incomplete => {}
        }
        // A server that has begun to speak has time for the rest; a slow one is silent.
        let limit = if received.is_empty() {
            within
        } else {
            within.min(SILENT)
        };
        let deadline = began + limit;
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
