//! Asks the kernel who listens on vsock, as `ss --vsock --listening` does.
//!
//! A port below 1024 is denied to this process before the kernel looks whether somebody has it. A
//! connection would tell, and cost its listener a process each time; this costs nobody anything.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{AF_VSOCK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN`, which vsock uses as well (net/vmw_vsock/af_vsock.c).
const LISTENING: u32 = 10;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// What the kernel puts into one answer at most (netlink(7)).
const BUFFER: usize = 32 * 1024;

/// Whether anybody listens on this vsock port.
///
/// # Errors
/// Where the kernel does not say: it may lack `vsock_diag`.
pub(super) fn somebody_listens(port: u32) -> io::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let kernel = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    let fd = kernel.as_raw_fd();
    sendto(fd, &question(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut buffer = vec![0; BUFFER];
    loop {
        // It answers in the course of the question, and of each read.
        let length = recv(fd, &mut buffer, MsgFlags::empty())?;
        match listens(&buffer[..length], port)? {
            Answer::Yes => return Ok(true),
            Answer::No => return Ok(false),
            Answer::More => {}
        }
    }
}

/// `struct nlmsghdr`, then `struct vsock_diag_req` (linux/vm_sockets_diag.h).
fn question() -> Vec<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "small constants of the kernel's that libc gives another type"
    )]
    let (flags, family) = ((NLM_F_REQUEST | NLM_F_DUMP) as u16, AF_VSOCK as u8);
    let mut message = vec![0; HEADER + 24];
    let length = u32::try_from(message.len()).unwrap_or_default();
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[HEADER] = family;
    message[HEADER + 4..HEADER + 8].copy_from_slice(&(1_u32 << LISTENING).to_ne_bytes());
    message
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// Not among these, and there are others.
    More,
}

/// Looks through messages, each a `struct nlmsghdr` and a `struct vsock_diag_msg`.
fn listens(mut messages: &[u8], port: u32) -> io::Result<Answer> {
    let word = |bytes: &[u8], at: usize| -> io::Result<u32> {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        Ok(u32::from_ne_bytes(word.ok_or(Errno::EBADMSG)?))
    };
    while !messages.is_empty() {
        let length = word(messages, 0)? as usize;
        if length < HEADER || length > messages.len() {
            return Err(Errno::EBADMSG.into());
        }
        let body = &messages[HEADER..length];
        let kind = i32::from(u16::from_ne_bytes([messages[4], messages[5]]));
        match kind {
            NLMSG_DONE => return Ok(Answer::No),
            NLMSG_ERROR => {
                let errno = word(body, 0)?.cast_signed().saturating_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            // Family, type, state and shutdown are a byte each; then the own ID and port.
            _ if word(body, 8)? == port => return Ok(Answer::Yes),
            _ => {}
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(Answer::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u32]) -> Vec<u8> {
        let length = u32::try_from(HEADER + 4 * body.len()).unwrap();
        let mut message = vec![0; HEADER];
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(body.iter().flat_map(|word| word.to_ne_bytes()));
        message
    }

    fn listener(port: u32) -> Vec<u8> {
        message(BY_FAMILY, &[0, u32::MAX, port, 0, 0, 1, 0, 0])
    }

    #[test]
    fn a_listener_is_found_among_others() {
        let done = message(u16::try_from(NLMSG_DONE).unwrap(), &[0]);
        let all = [listener(1024), listener(22), done.clone()].concat();
        assert_eq!(listens(&all, 22).unwrap(), Answer::Yes);
        assert_eq!(listens(&all, 23).unwrap(), Answer::No);
        assert_eq!(listens(&listener(1024), 22).unwrap(), Answer::More);
        assert_eq!(listens(&done, 22).unwrap(), Answer::No);
    }

    #[test]
    fn a_kernel_without_an_answer_is_no_answer() {
        let missing = (-(Errno::ENOENT as i32)).cast_unsigned();
        let error = message(u16::try_from(NLMSG_ERROR).unwrap(), &[missing]);
        let error = listens(&error, 22).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENOENT as i32));
    }

    #[test]
    fn nonsense_is_an_error() {
        let whole = listener(22);
        for length in 1..whole.len() {
            assert!(listens(&whole[..length], 22).is_err(), "{length}");
        }
        assert!(listens(&message(BY_FAMILY, &[0]), 22).is_err());
    }
}
