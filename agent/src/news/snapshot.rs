//! The network as far as it matters to a connection, to be compared with itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// What runs, with which addresses, and where the routes lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    interfaces: BTreeSet<(String, bool, Option<IpAddr>)>,
    routes: BTreeSet<String>,
}

impl Snapshot {
    /// The network now; what the kernel does not tell is left out.
    pub(super) fn take() -> Self {
        let interfaces = getifaddrs().into_iter().flatten().map(|entry| {
            let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            let address = entry.address.and_then(|address| {
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            });
            (entry.interface_name, entry.flags.contains(up), address)
        });
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut routes: BTreeSet<_> = read("/proc/self/net/route").lines().map(v4).collect();
        routes.extend(read("/proc/self/net/ipv6_route").lines().map(v6));
        Self {
            interfaces: interfaces.collect(),
            routes,
        }
    }
}

/// Interface, destination, gateway, flags, references, use, metric, mask: without the counters.
fn v4(line: &str) -> String {
    without(line, 4..=5)
}

/// Destination, prefix, source, prefix, next hop, metric, references, use, ..: likewise.
fn v6(line: &str) -> String {
    without(line, 6..=7)
}

fn without(line: &str, counters: std::ops::RangeInclusive<usize>) -> String {
    let columns = line.split_whitespace().enumerate();
    let kept: Vec<_> = columns
        .filter(|(column, _)| !counters.contains(column))
        .map(|(_, text)| text)
        .collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_looks_the_same_twice_and_has_a_loopback() {
        let network = Snapshot::take();
        assert_eq!(network, Snapshot::take());
        let loopback = ("lo".to_owned(), true, Some([127, 0, 0, 1].into()));
        assert!(network.interfaces.contains(&loopback));
    }

    #[test]
    fn counters_of_routes_are_no_change_and_all_else_is() {
        // From /proc/net/route and /proc/net/ipv6_route.
        let quiet = "eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        let used = quiet.replace("0003\t0\t0", "0003\t4\t77");
        let moved = quiet.replace("0202000A", "0302000A");
        assert_eq!(v4(quiet), v4(&used));
        assert_ne!(v4(quiet), v4(&moved));
        let demoted = quiet.replace("\t100\t", "\t300\t");
        assert_ne!(v4(quiet), v4(&demoted));
        let gone = "fe80 40 0 00 0 00000100 00000001 00000000 00000001 eth0";
        let used = gone.replace("00000001 00000000 00000001", "00000009 00000008 00000001");
        assert_eq!(v6(gone), v6(&used));
        assert_ne!(v6(gone), v6(&gone.replace("eth0", "eth1")));
    }
}
