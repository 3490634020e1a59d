//! The kernel's notifications of links, addresses, routes and policy rules (rtnetlink(7)).

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

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`, and
/// `RTNLGRP_IPV6_RULE` (group 19) as a bit of the same mask (linux/rtnetlink.h). A policy rule
/// (ip-rule(8)) can change a way while all routes stay.
const ROUTES: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;

/// As large as any message that we care for; longer ones are cut, and tell as much.
const BUFFER: usize = 1024;

/// A socket on which the kernel speaks.
#[derive(Debug)]
pub(super) struct Netlink {
    // None where it does not, as in some sandboxes.
    socket: Option<AsyncFd<OwnedFd>>,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Links, addresses, routes and policy rules.
    pub(super) fn routes() -> Self {
        let opened = open();
        let opened = opened.inspect_err(|error| debug!(%error, "no news of the network"));
        Self {
            socket: opened.ok(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Waits for any message of the kernel's, or until some were lost. Nothing is lost if it is
    /// dropped before it ends.
    pub(super) async fn changed(&mut self) {
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
                Ok((_, Some(from))) if from.pid() == 0 => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::ENOBUFS) => return,
                Err(error) => {
                    debug!(%error, "netlink is gone");
                    drop(ready);
                    self.socket = None;
                }
            }
        }
    }
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkRoute;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, ROUTES))?;
    host::watch(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_can_be_heard_without_privileges() {
        assert!(Netlink::routes().socket.is_some());
    }

    #[tokio::test]
    async fn policy_rules_of_both_families_are_heard_of() {
        use nix::libc::{RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE};
        let socket = Netlink::routes().socket.unwrap();
        let bound: NetlinkAddr = nix::sys::socket::getsockname(socket.as_raw_fd()).unwrap();
        for group in [RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE] {
            assert_ne!(bound.groups() & (1 << (group - 1)), 0, "group {group}");
        }
    }
}
