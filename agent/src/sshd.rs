//! Watches the local sshd: dials it as anybody would, and reads how it introduces itself.
//!
//! Both ways in lead to sshd, so neither is called ready before its banner has been read. The
//! check has a source address of its own, [`Origin::Check`]: it costs
//! nobody else a penalty.
//!
//! A check costs sshd a process and a line in its log, so there is never more than one at a time,
//! and none without a reason: the start, a failed check, or a connection that sshd did not answer.
//! A check stays on its connection for as long as sshd would: a second one would make a slow sshd
//! slower. In between, the kernel is asked each minute whether the socket still listens, which
//! sshd does not notice; and a user's connection that gets past the banners counts as a check.
//!
//! Unless the configuration fixes its address, the agent searches for sshd before each check
//! (`finder`): in the files of sshd and systemd, and in the kernel's list of sockets.

mod address;
mod banner;
mod fault;
mod finder;
mod leave;
mod listening;
mod openers;
mod place;
mod search;
mod settings;
mod timing;
mod units;
mod watcher;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model;

pub use address::Address;
pub use banner::{Introduction, introduction};
pub use fault::{CheckError, Reason};
use place::{LOCAL_ONLY, Place};
pub use search::{Target, expected};
pub use settings::host_keys;
pub(crate) use settings::use_dns;
use timing::{SILENT, Timing};
pub use watcher::Watcher;

/// How long a probe of the tunnel waits for a check to end.
const FIRST: Duration = Duration::from_secs(5);

/// A connection without a word for so long is a reason for a check. A shorter silence is of a slow
/// sshd, which one more connection would make slower.
pub const UNANSWERED: Duration = Duration::from_secs(15);

/// No version line is longer, in bytes (RFC 4253, 4.2). A client that has sent more has read
/// sshd's, and begun the key exchange.
const VERSION_LINE: u64 = 255;

/// What the last checks came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The first check has not come back.
    Unknown,
    /// It answers.
    Ready {
        /// Its banner.
        banner: String,
        /// Whether the kernel lists its socket while it listens; false where the kernel can't.
        listable: bool,
    },
    /// It does not answer as an sshd.
    Down(model::Fault),
}

impl State {
    /// Whether it answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// What the other parts hold of the watch over sshd.
#[derive(Debug, Clone)]
pub struct Sshd {
    /// The place that users' connections are dialled to.
    place: watch::Receiver<Place>,
    state: watch::Receiver<State>,
    signals: Arc<Signals>,
}

/// Messages of the other parts to the watch over sshd.
#[derive(Debug, Default)]
struct Signals {
    /// A connection was not answered.
    suspect: Notify,
    /// A connection got past the banners.
    proof: Notify,
}

impl Sshd {
    /// The address where sshd listens, or is expected.
    #[must_use]
    pub fn address(&self) -> Address {
        self.place.borrow().address.clone()
    }

    /// Connects to sshd for `origin`.
    ///
    /// # Errors
    /// The kernel's error, `TimedOut` after eight seconds, or `PermissionDenied` if the listener
    /// may not be sshd, or is not for this origin.
    pub async fn dial(&self, dialer: &Dialer, origin: &Origin) -> io::Result<TcpStream> {
        let place = self.place.borrow().clone();
        if let Some(why) = place.refusal(origin) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        place.address.dial(dialer, origin).await
    }

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

    /// Says that sshd did not answer a connection: a reason for a check.
    pub fn suspect(&self) {
        self.signals.suspect.notify_one();
    }

    /// Says what a new connection has moved in its first seconds, in bytes each way. Nothing from
    /// sshd is a reason for a check, and a key exchange that has begun makes one needless. Banners
    /// alone are neither: sshd also turns clients away in words.
    pub fn moved(&self, inward: u64, outward: u64) {
        if outward == 0 {
            self.suspect();
        } else if inward > VERSION_LINE && outward > VERSION_LINE {
            self.signals.proof.notify_one();
        }
    }

    /// Its banner, for a probe of the tunnel. A check that is needed now is waited for.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn banner(&mut self) -> Result<String, String> {
        let listens = || self.place.borrow().listener().is_some();
        let check = match *self.state.borrow_and_update() {
            State::Unknown => true,
            State::Ready { listable, .. } => listable && !listens(),
            State::Down(_) => false,
        };
        if check {
            self.suspect();
            let _ = timeout(FIRST, self.changed()).await;
        }
        match self.state() {
            State::Ready { .. } if self.place.borrow().local_only => Err(LOCAL_ONLY.to_owned()),
            State::Ready { banner, .. } => Ok(banner),
            State::Down(fault) => Err(fault.message),
            State::Unknown => Err("it has not answered yet".to_owned()),
        }
    }
}

/// Makes the watcher of the sshd that `target` names, and the handle for the other tasks.
#[must_use]
pub fn watch(target: Target, dialer: Dialer, slice: Slice<model::Sshd>) -> (Watcher, Sshd) {
    let (sender, receiver) = watch::channel(State::Unknown);
    let signals = Arc::new(Signals::default());
    let sshd = Sshd {
        place: target.subscribe(),
        state: receiver,
        signals: Arc::clone(&signals),
    };
    let watcher = Watcher {
        target,
        dialer,
        slice,
        state: sender,
        signals,
        timing: Timing::DEFAULT,
        listable: false,
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
    let end = Instant::now() + within;
    let mut received = Vec::new();
    loop {
        match introduction(&received) {
            Introduction::Banner(banner) => return Ok(banner),
            Introduction::NotSsh(said) => return Err(Reason::NotSsh(said)),
            Introduction::Incomplete => {}
        }
        // A server that has begun to speak has time for the rest; a slow one is silent.
        let deadline = if received.is_empty() {
            end
        } else {
            end.min(Instant::now() + SILENT)
        };
        // A reset is a close as well: sshd does either to those it turns away.
        match timeout_at(deadline, stream.read_buf(&mut received)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Err(Reason::NoBanner(banner::excerpt(&received))),
            Err(_) if received.is_empty() => return Err(Reason::Silent(within)),
            Err(_) => return Err(Reason::NotSsh(banner::excerpt(&received))),
        }
    }
}

#[cfg(test)]
mod tests;
