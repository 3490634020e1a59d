//! What an address is good for to somebody outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address can be dialled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// From anywhere. The ranges for documentation count as if they could be: nobody has them but
    /// those who try things out.
    Public,
    /// From one site (RFC 1918).
    Private,
    /// From behind the same carrier's NAT (RFC 6598).
    Carrier,
    /// From one site (RFC 4193, and RFC 3879 for what came before it).
    UniqueLocal,
    /// From nowhere that matters here: this host, documentation, tunnels through NAT, and so on.
    Special,
    /// From the same link.
    LinkLocal,
}

impl Reach {
    pub(super) fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(*v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }

    /// What a person calls such an address.
    pub(super) fn as_words(self) -> &'static str {
        match self {
            Self::Public => "a global address",
            Self::Private => "a private address",
            Self::Carrier => "an address behind a carrier's NAT",
            Self::UniqueLocal => "a unique local address",
            Self::Special => "an address for special purposes",
            Self::LinkLocal => "a link-local address",
        }
    }
}

/// By the IANA registry of special-purpose addresses.
fn of_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b) {
        _ if address.is_private() => Reach::Private,
        _ if address.is_link_local() => Reach::LinkLocal,
        (100, 64..=127) => Reach::Carrier,
        // This network; this host; benchmarks (RFC 2544); multicast and what was never handed out.
        (0 | 127, _) | (198, 18 | 19) | (224..=255, _) => Reach::Special,
        // Protocol assignments.
        (192, 0) if c == 0 => Reach::Special,
        _ => Reach::Public,
    }
}

fn of_v6(address: &Ipv6Addr) -> Reach {
    let [first, second, ..] = address.segments();
    match first {
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Reach::UniqueLocal,
        0xfe80..=0xfebf => Reach::LinkLocal,
        // All that has been handed out; but 2001::/32 is Teredo, a tunnel through NAT.
        0x2000..=0x3fff if (first, second) != (0x2001, 0) => Reach::Public,
        _ => Reach::Special,
    }
}
