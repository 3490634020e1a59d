//! The guest loses its link, and gets another address with the next: how long the port is gone.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use harness::failure::Result;
use harness::link::{self, Way};
use harness::openssh::Sshd;
use harness::site::{Site, Users};
use harness::wait;

use crate::Peer;

/// How long there is no link.
const DOWN: Duration = Duration::from_secs(10);

/// The guest's address afterwards.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 98, 0, 3));

/// How the proxy is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// `ClientAliveInterval`, with three of them unanswered.
    pub interval: u32,
    /// `net.ipv4.tcp_retries2`.
    pub retries: u32,
}

impl Setting {
    /// All of them, OpenSSH's and the kernel's defaults first.
    pub const ALL: [Self; 6] = [
        Self::new(15, 15),
        Self::new(5, 15),
        Self::new(15, 8),
        Self::new(15, 6),
        Self::new(15, 5),
        Self::new(5, 5),
    ];

    const fn new(interval: u32, retries: u32) -> Self {
        Self { interval, retries }
    }

    fn config(self) -> String {
        let interval = format!("ClientAliveInterval {}", self.interval);
        Sshd::proxy_config().replace("ClientAliveInterval 15", &interval)
    }
}

/// The seconds from the new address to the port held from it; none after `limit`. `dialled`: users
/// dial the port all the time.
///
/// # Errors
///
/// If a peer does not start, or a setting can't be made.
pub fn measure(
    peer: Peer,
    setting: Setting,
    dialled: bool,
    limit: Duration,
) -> Result<Option<Duration>> {
    let ways = [Way::new(10_000_000).delay(10); 2];
    let site = Site::with_proxy(ways, &setting.config())?;
    site.proxy_retries(setting.retries)?;
    let _running = peer.up(&site)?;
    let _users = dialled.then(|| Users::dial(&site));
    link::take_down(&site.guest)?;
    thread::sleep(DOWN);
    link::bring_up(&site.guest, OTHER)?;
    let start = Instant::now();
    let held = wait::until("port held from the new address", limit, || {
        (site.holder().ok().flatten() == Some(OTHER)).then(|| start.elapsed())
    });
    Ok(held.ok())
}
