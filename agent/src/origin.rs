//! Who is at the far end of a connection, and the address under which sshd sees them.
//!
//! sshd counts failures, penalties and unauthenticated connections by source address
//! (`PerSourcePenalties` is on by default since OpenSSH 9.8). Were every relayed connection to
//! come from 127.0.0.1, one scanner on the proxy's public port would lock out the owner and the
//! host as well. So each origin has an address of its own in 127.0.0.0/8; binding there before
//! the connect needs no privilege.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Which source addresses a service of this guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origins {
    /// Each origin has an address of its own in 127.0.0.0/8.
    Apart,
    /// All connections come from the one address that the kernel chooses, usually 127.0.0.1.
    One,
}

/// Who is at the far end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A context ID on the vsock side; 2 is the host.
    Cid(u32),
    /// A process on the Unix socket that stands in for vsock.
    Unix,
    /// A client of the proxy, as the proxy reported it (RFC 4254, 7.2).
    Client {
        /// Its address.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// A client of the proxy that the proxy named by something other than an IP address.
    Named(String),
    /// This agent, looking whether sshd answers.
    Check,
}

/// Origins that are one to sshd and to the bounds on connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A context ID.
    Cid(u32),
    /// All who use the Unix socket.
    Unix,
    /// All who share an IPv4 address.
    V4(Ipv4Addr),
    /// All who share the IPv6 /64 that begins here: one machine may have all of its addresses.
    V6(Ipv6Addr),
    /// All whom the proxy calls that.
    Named(String),
    /// This agent.
    Check,
}

impl Origin {
    /// Whom it belongs to.
    #[must_use]
    pub fn party(&self) -> Party {
        match self {
            Self::Cid(cid) => Party::Cid(*cid),
            Self::Unix => Party::Unix,
            Self::Client { address, .. } => match address.to_canonical() {
                IpAddr::V4(v4) => Party::V4(v4),
                IpAddr::V6(v6) => Party::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            },
            Self::Named(name) => Party::Named(name.clone()),
            Self::Check => Party::Check,
        }
    }
}

/// Maps origins to addresses, steadily for the life of the process.
#[derive(Debug, Clone, Default)]
pub struct OriginMap {
    // Keyed at random: nobody can choose an address that collides with somebody else's.
    hasher: RandomState,
}

impl OriginMap {
    /// The address in 127.0.0.0/8 from which `origin` reaches sshd.
    ///
    /// | origin | addresses |
    /// |---|---|
    /// | this agent's own checks | 127.1.0.1 |
    /// | the Unix socket | 127.1.0.3 |
    /// | the host, CID 2 | 127.1.0.2 |
    /// | other CIDs | 127.64.0.0/10 |
    /// | clients of the proxy | 127.128.0.0/9 |
    ///
    /// Clients share an address per IPv4 address or IPv6 /64, which is what one party is given.
    #[must_use]
    pub fn source(&self, origin: &Origin) -> Ipv4Addr {
        match origin.party() {
            Party::Check => Ipv4Addr::new(127, 1, 0, 1),
            Party::Cid(2) => Ipv4Addr::new(127, 1, 0, 2),
            Party::Unix => Ipv4Addr::new(127, 1, 0, 3),
            Party::Cid(cid) => self.hashed(cid, Ipv4Addr::new(127, 64, 0, 0), 22),
            party @ (Party::V4(_) | Party::V6(_) | Party::Named(_)) => {
                self.hashed(party, Ipv4Addr::new(127, 128, 0, 0), 23)
            }
        }
    }

    fn hashed(&self, key: impl std::hash::Hash, network: Ipv4Addr, host_bits: u32) -> Ipv4Addr {
        // Neither all zeros nor all ones: 127.255.255.255 is lo's broadcast address.
        let usable = (1_u64 << host_bits) - 2;
        let host = (self.hasher.hash_one(key) % usable + 1) as u32;
        Ipv4Addr::from_bits(network.to_bits() | host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => write!(f, "cid {cid}"),
            Self::Unix => f.write_str("unix"),
            Self::Client { address, port } => {
                write!(f, "{}", std::net::SocketAddr::new(*address, *port))
            }
            Self::Named(name) => write!(f, "{}", name.escape_default()),
            Self::Check => f.write_str("vmagent"),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => Origin::Cid(*cid).fmt(f),
            Self::Unix => Origin::Unix.fmt(f),
            Self::V4(address) => address.fmt(f),
            Self::V6(first) => write!(f, "{first}/64"),
            Self::Named(name) => write!(f, "{}", name.escape_default()),
            Self::Check => Origin::Check.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_origin() -> impl Strategy<Value = Origin> {
        prop_oneof![
            Just(Origin::Check),
            Just(Origin::Unix),
            any::<u32>().prop_map(Origin::Cid),
            (any::<IpAddr>(), any::<u16>())
                .prop_map(|(address, port)| Origin::Client { address, port }),
            any::<String>().prop_map(Origin::Named),
        ]
    }

    proptest! {
        #[test]
        fn every_source_is_a_bindable_loopback_address(origin in any_origin()) {
            let source = OriginMap::default().source(&origin);
            prop_assert!(source.is_loopback());
            prop_assert_ne!(source, Ipv4Addr::LOCALHOST);
            prop_assert_ne!(source, Ipv4Addr::new(127, 255, 255, 255));
        }

        #[test]
        fn the_host_shares_its_source_with_nobody(origin in any_origin()) {
            prop_assume!(origin != Origin::Cid(2));
            let map = OriginMap::default();
            prop_assert_ne!(map.source(&origin), map.source(&Origin::Cid(2)));
        }

        #[test]
        fn an_origin_keeps_its_source_whatever_its_port(address: IpAddr, a: u16, b: u16) {
            let map = OriginMap::default();
            let source = |port| map.source(&Origin::Client { address, port });
            prop_assert_eq!(source(a), source(b));
        }
    }

    #[test]
    fn neighbours_on_one_ipv6_prefix_are_one_party() {
        let map = OriginMap::default();
        let source = |text: &str| {
            map.source(&Origin::Client {
                address: text.parse().unwrap(),
                port: 1,
            })
        };
        assert_eq!(source("2001:db8::1"), source("2001:db8::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
