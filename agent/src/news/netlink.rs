//! What the kernel tells everybody: changes of the network, and events of devices.

use std::future::pending;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use crate::host;

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`
/// (linux/rtnetlink.h).
const ROUTES: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// The group that the kernel itself sends to; udev sends to the next one.
const UEVENTS: u32 = 0x1;

/// What the driver of the VM generation ID says after a restore, since Linux 6.10
/// (drivers/virt/vmgenid.c).
const RESTORED: &[u8] = b"NEW_VMGENID=1";

/// As large as any message that we care for; longer ones are cut, and tell as much.
const BUFFER: usize = 8 * 1024;

/// A socket on which the kernel speaks.
#[derive(Debug)]
pub(super) struct Netlink {
    // None where it does not, as in some sandboxes.
    socket: Option<AsyncFd<OwnedFd>>,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Links, addresses and routes.
    pub(super) fn routes() -> Self {
        Self::new(SockProtocol::NetlinkRoute, ROUTES)
    }

    /// Events of devices.
    pub(super) fn uevents() -> Self {
        Self::new(SockProtocol::NetlinkKObjectUEvent, UEVENTS)
    }

    fn new(protocol: SockProtocol, groups: u32) -> Self {
        let opened = open(protocol, groups);
        let opened = opened.inspect_err(|error| debug!(?protocol, %error, "no news from netlink"));
        Self {
            socket: opened.ok(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Waits for any message. Nothing is lost if it is dropped before it ends.
    pub(super) async fn changed(&mut self) {
        self.message().await;
    }

    /// Waits until this machine has been restored from a snapshot.
    pub(super) async fn restored(&mut self) {
        loop {
            let length = self.message().await;
            let message = self.buffer.get(..length).unwrap_or_default();
            if message
                .split(|byte| *byte == 0)
                .any(|field| field == RESTORED)
            {
                return;
            }
        }
    }

    /// Waits for a message of the kernel's, and returns its length; 0 when some were lost.
    async fn message(&mut self) -> usize {
        loop {
            let Some(socket) = &self.socket else {
                return pending().await;
            };
            let Ok(mut ready) = socket.readable().await else {
                self.socket = None;
                continue;
            };
            match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut self.buffer) {
                // Any process may send to a group where it has the right to; only the kernel is 0.
                Ok((length, Some(from))) if from.pid() == 0 => return length,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::ENOBUFS) => return 0,
                Err(error) => {
                    debug!(%error, "netlink is gone");
                    drop(ready);
                    self.socket = None;
                }
            }
        }
    }
}

fn open(protocol: SockProtocol, groups: u32) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    host::watch(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_can_be_heard_without_privileges_and_are_quiet() {
        for mut netlink in [Netlink::routes(), Netlink::uevents()] {
            assert!(netlink.socket.is_some());
            let wait = std::time::Duration::from_millis(20);
            let restored = tokio::time::timeout(wait, netlink.restored());
            assert!(restored.await.is_err(), "nobody restored this machine");
        }
    }
}
