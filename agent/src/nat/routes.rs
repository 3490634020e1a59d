//! The kernel's default routes, and the addresses of the interfaces that they lead to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use tokio::sync::Mutex;

use super::Address;
use crate::aside::aside;

/// The kinds of addresses, each with routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Its name in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// A default route. They sort by preference within their family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// What it is for.
    pub family: Family,
    /// The lower one is taken.
    pub metric: u32,
    /// Where it leads.
    pub interface: String,
}

/// Held during a read of the tables: a router has 100 000 routes and more.
static TURN: Mutex<()> = Mutex::const_new(());

/// The default routes, sorted. What the kernel does not tell is left out.
///
/// The tables are read on a thread of their own, never more than one at a time.
pub(crate) async fn read() -> BTreeSet<Route> {
    let turn = TURN.lock().await;
    aside("routes", move || {
        let routes = tables();
        drop(turn);
        routes
    })
    .await
}

fn tables() -> BTreeSet<Route> {
    let of = |path, parse: fn(&str) -> Option<Route>| {
        // Line by line: a large table takes no memory.
        let lines = File::open(path).into_iter().flat_map(|table| {
            let lines = BufReader::new(table).lines();
            lines.map_while(Result::ok)
        });
        lines.filter_map(move |line| parse(&line))
    };
    let v4 = of("/proc/self/net/route", default_v4);
    v4.chain(of("/proc/self/net/ipv6_route", default_v6))
        .collect()
}

/// The addresses by which this machine is known where its default routes lead: of each family,
/// those of the interface with the lowest metric, or of all that share it.
pub(super) fn addresses(routes: &BTreeSet<Route>) -> BTreeSet<Address> {
    let mut addresses = BTreeSet::new();
    for entry in getifaddrs().into_iter().flatten() {
        let address = entry.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if let Some(ip) = address
            && counts(routes, &entry.interface_name, Family::of(&ip))
        {
            let interface = entry.interface_name;
            addresses.insert(Address { ip, interface });
        }
    }
    addresses
}

/// Whether the best default route of this family leads to this interface.
pub(super) fn counts(routes: &BTreeSet<Route>, interface: &str, family: Family) -> bool {
    let mut of_family = routes.iter().filter(|route| route.family == family);
    let best = of_family.clone().map(|route| route.metric).min();
    of_family.any(|route| Some(route.metric) == best && route.interface == interface)
}

/// `RTF_UP` and `RTF_REJECT` (linux/route.h).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

fn usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// A default route by a line of `/proc/net/route`: name, destination, gateway, flags, references,
/// use, metric, mask.
fn default_v4(line: &str) -> Option<Route> {
    let mut columns = line.split_whitespace();
    let (name, "00000000") = (columns.next()?, columns.next()?) else {
        return None;
    };
    let columns: Vec<_> = columns.collect();
    let [_, flags, _, _, metric, "00000000", ..] = columns[..] else {
        return None;
    };
    usable(flags).then(|| Route {
        family: Family::V4,
        metric: metric.parse().unwrap_or(u32::MAX),
        interface: name.to_owned(),
    })
}

/// The same by a line of `/proc/net/ipv6_route`: destination, its prefix length, source, its
/// length, next hop, metric, references, use, flags, name. The kernel's own reject route is on
/// `lo`.
fn default_v6(line: &str) -> Option<Route> {
    let mut columns = line.split_whitespace();
    let (destination, "00") = (columns.next()?, columns.next()?) else {
        return None;
    };
    let columns: Vec<_> = columns.collect();
    let [_, _, _, metric, _, _, flags, name] = columns[..] else {
        return None;
    };
    let all = destination.bytes().all(|digit| digit == b'0');
    (all && usable(flags) && name != "lo").then(|| Route {
        family: Family::V6,
        metric: u32::from_str_radix(metric, 16).unwrap_or(u32::MAX),
        interface: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces and metrics of the default routes in a table.
    fn names(table: &str, parse: fn(&str) -> Option<Route>) -> Vec<(String, u32)> {
        let routes = table.lines().filter_map(parse);
        routes
            .map(|route| (route.interface, route.metric))
            .collect()
    }

    #[test]
    fn only_interfaces_with_a_usable_default_route_count() {
        let v4 =
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth2\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
";
        assert_eq!(names(v4, default_v4), [("eth0".to_owned(), 100)]);
        let none = "00000000000000000000000000000000";
        let v6 = format!(
            "{none} 00 {none} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0
20010db8000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth1
{none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo
"
        );
        assert_eq!(names(&v6, default_v6), [("eth0".to_owned(), 1024)]);
        assert!(names("nonsense\n", default_v4).is_empty());
        assert!(names("", default_v6).is_empty());
    }

    fn route(family: Family, interface: &str, metric: u32) -> Route {
        let interface = interface.to_owned();
        Route {
            family,
            metric,
            interface,
        }
    }

    #[test]
    fn of_several_default_routes_the_lowest_metric_of_each_family_counts() {
        use Family::{V4, V6};
        let routes = BTreeSet::from([
            route(V4, "wlan0", 600),
            route(V4, "eth0", 100),
            route(V6, "wlan0", 100),
            route(V6, "eth1", 1024),
            route(V6, "eth2", 100),
        ]);
        let counting = |family| {
            let all = ["eth0", "eth1", "eth2", "wlan0"];
            all.into_iter()
                .filter(|name| counts(&routes, name, family))
                .collect::<Vec<_>>()
        };
        assert_eq!(counting(V4), ["eth0"]);
        assert_eq!(counting(V6), ["eth2", "wlan0"], "they share it");
        assert!(!counts(&BTreeSet::new(), "eth0", V4));
        // As the status lists them: what counts stands first.
        let shown: Vec<_> = routes.iter().map(|route| route.metric).collect();
        assert_eq!(shown, [100, 600, 100, 100, 1024]);
    }
}
