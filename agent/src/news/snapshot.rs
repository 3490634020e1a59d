//! The network as far as it matters to this guest, to be compared with itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::nat::routes::{self, Route};

/// What runs, with which addresses, and where the default routes lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    interfaces: BTreeSet<(String, bool, Option<IpAddr>)>,
    routes: BTreeSet<Route>,
}

impl Snapshot {
    /// The network now; what the kernel does not tell is left out.
    pub(super) async fn take() -> Self {
        let interfaces = getifaddrs().into_iter().flatten().map(|entry| {
            let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            let address = entry.address.and_then(|address| {
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            });
            (entry.interface_name, entry.flags.contains(up), address)
        });
        let interfaces = interfaces.collect();
        Self {
            interfaces,
            routes: routes::read().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_looks_the_same_twice_and_has_a_loopback() {
        let network = Snapshot::take().await;
        assert_eq!(network, Snapshot::take().await);
        let loopback = ("lo".to_owned(), true, Some([127, 0, 0, 1].into()));
        assert!(network.interfaces.contains(&loopback));
    }
}
