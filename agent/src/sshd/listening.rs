//! Asks the kernel for listening sockets (sock_diag(7)), as ss(8) does.
//!
//! Unlike a connection, a request starts no process of sshd, wakes no socket unit, and leaves no
//! line in a log. The cost of a request for one address does not grow with the number of sockets;
//! the request for all visits the listening ones only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h): the type of the request and of a good answer.
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN` (net/tcp_states.h).
const LISTENING: u8 = 10;
/// `INET_DIAG_CGROUP_ID` (linux/inet_diag.h), an attribute of Linux 5.9 and later.
const CGROUP: u16 = 21;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// `sizeof(struct inet_diag_req_v2)` (linux/inet_diag.h).
const REQUEST: usize = 56;
/// `sizeof(struct inet_diag_msg)`.
const ANSWER: usize = 72;
/// The largest answer of the kernel (netlink(7)).
const BUFFER: usize = 32 * 1024;

/// A listening socket, and the user who opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user, in this process's user namespace.
    pub(super) uid: u32,
    /// The inode of the socket: a later socket on the same address has another inode.
    pub(super) inode: u32,
}

/// One of the sockets that listen for TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    /// The bound address.
    pub(super) address: SocketAddr,
    /// The socket and its user.
    pub(super) owner: Owner,
    /// The cgroup of the process that opened it, as the inode of its directory in cgroup2.
    pub(super) cgroup: Option<u64>,
}

/// The listening socket that would accept a connection to `address`.
///
/// `None` also if the kernel can't say: for an address of another machine, or without `inet_diag`.
pub(super) fn look(address: SocketAddr) -> Option<Owner> {
    let mut found = None;
    // Without `NLM_F_DUMP`, the kernel looks up one socket; it may listen on a wildcard address.
    ask(&request(address, NLM_F_REQUEST, u32::MAX), |answer| {
        found = listener(answer).map(|listener| listener.owner);
        true
    })
    .ok()?;
    found
}

/// All listening TCP sockets.
///
/// # Errors
/// The kernel can't list sockets.
pub(super) fn all() -> io::Result<Vec<Listener>> {
    let mut all = Vec::new();
    for any in [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Ipv6Addr::UNSPECIFIED.into(),
    ] {
        let question = request(
            SocketAddr::new(any, 0),
            NLM_F_REQUEST | NLM_F_DUMP,
            1 << LISTENING,
        );
        ask(&question, |answer| {
            all.extend(listener(answer));
            false
        })?;
    }
    Ok(all)
}

/// Sends a request, and calls `enough` with each message of the answer until it returns true.
fn ask(question: &[u8], mut enough: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    let (fd, to) = (kernel.as_raw_fd(), NetlinkAddr::new(0, 0));
    sendto(fd, question, &to, MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        // The kernel answers before sendto(2) returns, and then during each read.
        let length = recv(fd, &mut buffer, MsgFlags::empty())?;
        let mut messages = &buffer[..length];
        while let Some(length) = number::<4>(messages, 0).map(u32::from_ne_bytes) {
            let message = messages.get(..length as usize).ok_or(Errno::EBADMSG)?;
            match number::<2>(message, 4).map(u16::from_ne_bytes) {
                Some(BY_FAMILY) if enough(message) => return Ok(()),
                Some(BY_FAMILY) => {}
                Some(kind) if i32::from(kind) == NLMSG_DONE => return Ok(()),
                Some(_) | None => return Err(Errno::ENOENT.into()),
            }
            let next = (length as usize).next_multiple_of(4);
            messages = messages.get(next..).unwrap_or_default();
        }
    }
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2`; `states` is a bit mask of socket states.
fn request(address: SocketAddr, flags: i32, states: u32) -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "small constants of the kernel's that libc gives another type"
    )]
    let (flags, v4, v6, tcp) = (
        flags as u16,
        AF_INET as u8,
        AF_INET6 as u8,
        IPPROTO_TCP as u8,
    );
    let mut message = vec![0; HEADER + REQUEST];
    let length = u32::try_from(message.len()).unwrap_or_default();
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    let body = &mut message[HEADER..];
    body[1] = tcp;
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[8..10].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            body[0] = v4;
            body[12..16].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            body[0] = v6;
            body[12..28].copy_from_slice(&ip.octets());
        }
    }
    body[48..56].fill(0xff); // INET_DIAG_NOCOOKIE
    message
}

/// Parses a `struct inet_diag_msg` and its attributes; `None` for another message, such as an
/// error, and for a socket that does not listen.
fn listener(message: &[u8]) -> Option<Listener> {
    let kind = number(message, 4).map(u16::from_ne_bytes);
    let body = message.get(HEADER..)?;
    if kind != Some(BY_FAMILY) || body.get(1) != Some(&LISTENING) {
        return None;
    }
    let ip = match i32::from(*body.first()?) {
        AF_INET => IpAddr::from(number::<4>(body, 8)?),
        AF_INET6 => IpAddr::from(number::<16>(body, 8)?),
        _ => return None,
    };
    Some(Listener {
        address: SocketAddr::new(ip, u16::from_be_bytes(number(body, 4)?)),
        owner: Owner {
            uid: u32::from_ne_bytes(number(body, 64)?),
            inode: u32::from_ne_bytes(number(body, 68)?),
        },
        cgroup: attribute(body.get(ANSWER..)?, CGROUP).map(u64::from_ne_bytes),
    })
}

/// The value of an eight-byte attribute (`struct nlattr`, netlink(7)).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<[u8; 8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(number(attributes, 0)?));
        if u16::from_ne_bytes(number(attributes, 2)?) == wanted {
            return number(attributes.get(..length)?, 4);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
