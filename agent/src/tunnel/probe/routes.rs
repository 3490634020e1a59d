//! From where, and under which address, a forward's port can be dialled.

use std::net::IpAddr;

/// The users who can dial a forward that is bound to this address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tunnel) enum Reach {
    /// Everybody, at these addresses, the likeliest first.
    Everybody(Vec<IpAddr>),
    /// Users of the proxy: the address or the name means something there only.
    Proxy,
}

/// Which families sshd listens on for a bind address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Families {
    V4,
    V6,
    Both,
}

/// The most addresses that one probe tries.
const MOST: usize = 3;

/// sshd listens on both families for the empty bind and `*`, and on the one family of an
/// unspecified address otherwise (`channel_setup_fwd_listener_tcpip`, OpenSSH's channels.c).
fn families(bind: &str) -> Option<Families> {
    match (bind, bind.parse::<IpAddr>()) {
        ("" | "*", _) => Some(Families::Both),
        (_, Ok(IpAddr::V4(address))) if address.is_unspecified() => Some(Families::V4),
        (_, Ok(IpAddr::V6(address))) if address.is_unspecified() => Some(Families::V6),
        (_, Ok(_) | Err(_)) => None,
    }
}

/// Whether the forward can only be dialled over another family than the session with `peer`.
pub(in crate::tunnel) fn wants_other_family(bind: &str, peer: IpAddr) -> bool {
    match families(bind) {
        Some(Families::V4) => peer.is_ipv6(),
        Some(Families::V6) => peer.is_ipv4(),
        Some(Families::Both) | None => false,
    }
}

/// The users who can dial a forward on `bind` of the proxy at `peer`. `others` are all addresses of the
/// proxy's name. The peer itself comes last where it has the wrong family: behind NAT64 its IPv6
/// address leads to the proxy's IPv4 address (RFC 6147).
pub(in crate::tunnel) fn reach(bind: &str, peer: IpAddr, others: &[IpAddr]) -> Reach {
    let Some(families) = families(bind) else {
        return match bind.parse::<IpAddr>() {
            Ok(address) if !address.is_loopback() => Reach::Everybody(vec![address]),
            Ok(_) | Err(_) => Reach::Proxy,
        };
    };
    let fits = |address: &IpAddr| match families {
        Families::V4 => address.is_ipv4(),
        Families::V6 => address.is_ipv6(),
        Families::Both => true,
    };
    let mut addresses = vec![peer];
    if !fits(&peer) {
        addresses = others.iter().filter(|other| fits(other)).copied().collect();
        addresses.truncate(MOST - 1);
        addresses.push(peer);
    }
    Reach::Everybody(addresses)
}

/// The host to connect to from inside the proxy.
pub(in crate::tunnel) fn inside(bind: &str) -> &str {
    match families(bind) {
        Some(Families::V4 | Families::Both) => "127.0.0.1",
        Some(Families::V6) => "::1",
        None => bind,
    }
}
