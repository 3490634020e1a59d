//! Asks the kernel for the socket that listens on an address (sock_diag(7)), as ss(8) does.
//!
//! Unlike a connection, this starts no process of sshd, wakes no socket unit, and leaves no line in
//! a log. The request names one address, so its cost does not grow with the number of sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_REQUEST};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h): the type of the request and of a good answer.
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN` (net/tcp_states.h).
const LISTENING: u8 = 10;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// `sizeof(struct inet_diag_req_v2)` (linux/inet_diag.h).
const REQUEST: usize = 56;
/// An answer has 72 bytes and a few attributes.
const BUFFER: usize = 4096;

/// Whether the kernel has a socket that listens on `address`.
///
/// False also where the kernel can't say: on another machine, or without `inet_diag`.
pub(super) fn look(address: SocketAddr) -> bool {
    ask(address).is_ok_and(|answer| is_listener(&answer))
}

fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    let (fd, to) = (kernel.as_raw_fd(), NetlinkAddr::new(0, 0));
    sendto(fd, &request(address), &to, MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    // The kernel answers before sendto(2) returns.
    let length = recv(fd, &mut buffer, MsgFlags::empty())?;
    buffer.truncate(length);
    Ok(buffer)
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`. Without `NLM_F_DUMP` the kernel looks up the
/// one socket that would take a connection to `address`, a listener on a wildcard included.
fn request(address: SocketAddr) -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "small constants of the kernel's that libc gives another type"
    )]
    let (flags, v4, v6, tcp) = (
        NLM_F_REQUEST as u16,
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
    body[4..8].fill(0xff); // all states
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

/// Whether an answer is a `struct inet_diag_msg` of a listener. An error is an answer as well.
fn is_listener(answer: &[u8]) -> bool {
    let kind = answer.get(4..6) == Some(&BY_FAMILY.to_ne_bytes());
    kind && answer.get(HEADER + 1) == Some(&LISTENING)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_is_seen_on_each_address_that_it_serves_and_no_longer() {
        for (bind, dial, seen) in [
            ("127.0.0.1:0", "127.0.0.1", true),
            ("127.0.0.9:0", "127.0.0.9", true),
            ("127.0.0.9:0", "127.0.0.1", false),
            ("0.0.0.0:0", "127.0.0.1", true),
            ("[::1]:0", "::1", true),
            ("[::1]:0", "127.0.0.1", false),
            ("[::]:0", "127.0.0.1", true),
            ("127.0.0.1:0", "192.0.2.1", false),
        ] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let address = SocketAddr::new(dial.parse().unwrap(), port);
            assert_eq!(look(address), seen, "{bind} from {dial}");
            drop(listener);
            assert!(!look(address), "{bind}");
        }
    }

    /// sshd's sessions outlive its listener, on the same address and port.
    #[test]
    fn a_connection_is_no_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).unwrap();
        let far = listener.accept().unwrap();
        assert!(look(address));
        drop(listener);
        assert!(!look(address));
        drop((near, far));
    }

    #[test]
    fn an_error_and_a_short_answer_are_no_listener() {
        let mut answer = vec![0; HEADER + 72];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[HEADER + 1] = LISTENING;
        assert!(is_listener(&answer));
        for length in 0..=HEADER + 1 {
            assert!(!is_listener(&answer[..length]), "{length}");
        }
        answer[4..6].copy_from_slice(&2_u16.to_ne_bytes()); // NLMSG_ERROR
        assert!(!is_listener(&answer));
    }
}
