//! Whether anybody listens on an address of this machine, by the kernel's own list: a look that no
//! server notices.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::host;

/// `TCP_LISTEN` in the tables (net/tcp_states.h).
const LISTEN: &str = "0A";

/// Whether a socket listens on `address`; none, where that can't be known: on another machine, or
/// without the kernel's list. It reads a line for each connection of this machine.
pub(super) fn look(address: SocketAddr) -> Option<bool> {
    let ip = address.ip().to_canonical();
    if !ip.is_loopback() && !host::has_address(ip) {
        return None;
    }
    let read = |path| fs::read_to_string(path).ok();
    let v4 = read("/proc/self/net/tcp");
    let v6 = read("/proc/self/net/tcp6");
    if v4.is_none() && v6.is_none() {
        return None;
    }
    let both = v4.into_iter().chain(v6);
    Some(both.into_iter().any(|table| lists(&table, address)))
}

/// Whether one of the tables has a listening socket that takes connections to `address`.
fn lists(table: &str, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let serves = |line: &str| {
        // Number, local address, remote address, state, ..
        let mut words = line.split_whitespace();
        let local = words.nth(1).and_then(parse)?;
        let listens = words.nth(1) == Some(LISTEN);
        let own = local.ip().to_canonical();
        // A socket on `::` takes IPv4 connections as well, unless it is told not to; sshd tells
        // it, and has one of its own for IPv4 then.
        let fits = own == ip || own.is_unspecified() && (ip.is_ipv4() || own.is_ipv6());
        (listens && local.port() == address.port() && fits).then_some(())
    };
    table.lines().any(|line| serves(line).is_some())
}

/// An address as the tables have it: each 32 bits as a number of this machine, in hexadecimal.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let word = address.get(8 * index..8 * index + 8)?;
        u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            for (place, byte) in bytes.iter_mut().zip(words.iter().flatten()) {
                *place = *byte;
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_that_listens_is_seen_and_one_that_is_gone_is_not() {
        for (bind, dial) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("127.0.0.9:0", "127.0.0.9"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let address = SocketAddr::new(dial.parse().unwrap(), port);
            assert_eq!(look(address), Some(true), "{bind}");
            drop(listener);
            assert_eq!(look(address), Some(false), "{bind}");
        }
    }

    #[test]
    fn a_listener_on_another_address_serves_nobody_here() {
        let listener = TcpListener::bind("127.0.0.9:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look(([127, 0, 0, 1], port).into()), Some(false));
        assert_eq!(look(([192, 0, 2, 1], port).into()), None);
    }
}
