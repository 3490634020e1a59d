//! Whether this guest is behind NAT: the verdict, the rule it follows from, and its inputs.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

use crate::metadata::PublicAddress;
use crate::metadata::document::When;
use crate::status::model::{self, NatInputs, NatVerdict};

/// What the verdict is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Addresses of the interfaces that carry a default route.
    pub addresses: Vec<IpAddr>,
    /// The public address that the metadata names.
    pub public_address: Option<IpAddr>,
}

/// Whether a tunnel is held: what the configuration says, else the document, else the verdict.
///
/// When in doubt it is: one tunnel too many costs little, one too few may be the last way in.
#[must_use]
pub fn wanted(document: When, config: Option<When>, verdict: NatVerdict) -> bool {
    match config.unwrap_or(document) {
        When::Always => true,
        When::Never => false,
        When::Auto => match verdict {
            NatVerdict::Nat | NatVerdict::Unknown => true,
            NatVerdict::Direct | NatVerdict::OneToOne => false,
        },
    }
}

/// The verdict, and the rule that decided as a sentence.
#[must_use]
pub fn verdict(inputs: &Inputs) -> (NatVerdict, String) {
    let addresses: Vec<_> = inputs.addresses.iter().map(IpAddr::to_canonical).collect();
    let public = inputs.public_address.map(|address| address.to_canonical());
    if let Some(public) = public.filter(is_public) {
        return if addresses.contains(&public) {
            let rule = format!("the metadata names {public}, which is on the interface");
            (NatVerdict::Direct, rule)
        } else {
            let rule = format!("the metadata names {public}, which is not on the interface");
            (NatVerdict::OneToOne, rule)
        };
    }
    let mut global = addresses.iter().filter(|address| is_public(address));
    let v4 = global.clone().find(|address| address.is_ipv4());
    if let Some(address) = v4 {
        let rule = format!("the interface has the global address {address}");
        return (NatVerdict::Direct, rule);
    }
    let private_v4 = addresses.iter().find(|address| address.is_ipv4());
    match (private_v4, global.next()) {
        (Some(private), Some(v6)) => {
            let rule = format!(
                "the IPv4 address {private} is private; {v6} is global, but of use to IPv6 \
                 clients only"
            );
            (NatVerdict::Nat, rule)
        }
        (None, Some(v6)) => {
            let rule = format!("the interface has the global address {v6} and no IPv4");
            (NatVerdict::Direct, rule)
        }
        (_, None) => match addresses.first() {
            Some(private) => {
                let private = private_v4.unwrap_or(private);
                let rule = format!("{private} can't be dialled from outside, nor can any other");
                (NatVerdict::Nat, rule)
            }
            None => {
                let rule = "no interface has a default route and an address".to_owned();
                (NatVerdict::Unknown, rule)
            }
        },
    }
}

/// Whether an address can be dialled from anywhere. The ranges for documentation count as if
/// they could: nobody has them but those who try things out.
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(*v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// By the IANA registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b) {
        // This network; shared space behind carriers (RFC 6598); benchmarks (RFC 2544).
        (0, _) | (100, 64..=127) | (198, 18 | 19) => true,
        // Protocol assignments; multicast and what was never handed out.
        (192, 0) => c == 0,
        (224..=255, _) => true,
        _ => address.is_private() || address.is_loopback() || address.is_link_local(),
    };
    !special
}

fn is_public_v6(address: &Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // All that has been handed out is in 2000::/3; 2001::/32 is Teredo, a tunnel through NAT.
    first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0)
}

/// Reads the inputs; `public` is what the metadata says.
///
/// What the kernel does not tell is left out: the verdict is then `unknown`.
#[must_use]
pub fn read_inputs(public: PublicAddress) -> Inputs {
    let mut interfaces = BTreeSet::new();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    interfaces.extend(default_v4(&read("/proc/self/net/route")));
    interfaces.extend(default_v6(&read("/proc/self/net/ipv6_route")));
    let mut addresses = BTreeSet::new();
    for entry in getifaddrs().into_iter().flatten() {
        let Some(address) = entry
            .address
            .filter(|_| interfaces.contains(&entry.interface_name))
        else {
            continue;
        };
        addresses.extend(address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())));
        addresses.extend(address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
    }
    Inputs {
        addresses: addresses.into_iter().collect(),
        public_address: match public {
            PublicAddress::Own(address) => Some(address),
            PublicAddress::Unknown | PublicAddress::None | PublicAddress::LoadBalancer(_) => None,
        },
    }
}

/// `RTF_UP` and `RTF_REJECT` (linux/route.h).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

fn usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// Interfaces with a default route, by `/proc/net/route`: name, destination, gateway, flags, ..,
/// mask in the eighth column.
fn default_v4(table: &str) -> Vec<String> {
    let interface = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [name, "00000000", _, flags, _, _, _, "00000000", ..] = columns[..] else {
            return None;
        };
        usable(flags).then(|| name.to_owned())
    };
    table.lines().filter_map(interface).collect()
}

/// The same by `/proc/net/ipv6_route`: destination, its prefix length, source, its length, next
/// hop, metric, references, use, flags, name. The kernel's own reject route is on `lo`.
fn default_v6(table: &str) -> Vec<String> {
    let interface = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [destination, "00", _, _, _, _, _, _, flags, name] = columns[..] else {
            return None;
        };
        let all = destination.bytes().all(|digit| digit == b'0');
        (all && usable(flags) && name != "lo").then(|| name.to_owned())
    };
    table.lines().filter_map(interface).collect()
}

/// The slice of the status that shows all of it.
#[must_use]
pub fn show(inputs: &Inputs, verdict: NatVerdict, rule: &str) -> model::Nat {
    model::Nat {
        verdict,
        rule: rule.to_owned(),
        inputs: NatInputs {
            addresses: inputs.addresses.iter().map(IpAddr::to_string).collect(),
            public_address: inputs.public_address.map(|address| address.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
