//! The ways to the proxies, as the kernel would route a packet there now.
//!
//! ```text
//!  tunnel ── resolved addresses ──> Targets ──> Ways ── RTM_GETROUTE ──> interface, gateway, source
//! ```
//!
//! Interfaces of containers and routes to elsewhere come and go without a change of any of these.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::libc::{AF_INET, AF_INET6, IFF_RUNNING, IFF_UP, NLM_F_REQUEST};
use nix::libc::{RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_VIA};
use nix::libc::{RTM_GETLINK, RTM_GETROUTE, RTM_NEWLINK, RTM_NEWROUTE};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use tokio::sync::watch;
use tracing::debug;

use crate::aside::aside;

/// Addresses that stand for all proxies of a family while no address of that family is known. They
/// are reserved for documentation (RFC 5737, RFC 3849), so the kernel takes the default route. No
/// packet is sent.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The addresses of the proxies, as their names were resolved last.
#[derive(Debug, Clone, Default)]
pub struct Targets(Arc<watch::Sender<BTreeMap<String, BTreeSet<IpAddr>>>>);

impl Targets {
    /// `host` has these addresses.
    pub(crate) fn resolved(&self, host: &str, addresses: &[SocketAddr]) {
        let addresses = addresses.iter().map(SocketAddr::ip).collect();
        self.0.send_if_modified(|known| {
            let before = known.insert(host.to_owned(), addresses);
            before.as_ref() != known.get(host)
        });
    }

    /// There are other proxies now.
    pub(crate) fn clear(&self) {
        self.0
            .send_if_modified(|known| !std::mem::take(known).is_empty());
    }

    pub(super) fn watch(&self) -> watch::Receiver<BTreeMap<String, BTreeSet<IpAddr>>> {
        self.0.subscribe()
    }
}

/// The addresses whose ways are of interest. The guest may move to a network of the other family,
/// where the names of the proxies resolve to addresses that are not known yet (DNS64). So each
/// family without an address has its documentation address here.
pub(super) fn of_interest(targets: &BTreeMap<String, BTreeSet<IpAddr>>) -> BTreeSet<IpAddr> {
    let mut addresses: BTreeSet<_> = targets.values().flatten().copied().collect();
    // The kernel routes an IPv4-mapped address as IPv4.
    let known = |ours: &IpAddr| {
        let is_v4 = |address: &IpAddr| address.to_canonical().is_ipv4();
        addresses
            .iter()
            .any(|address| is_v4(address) == ours.is_ipv4())
    };
    let unknown: Vec<_> = ANYWHERE.into_iter().filter(|ours| !known(ours)).collect();
    addresses.extend(unknown);
    addresses
}

/// How a packet leaves this guest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    interface: u32,
    /// The interface is up and has a carrier.
    runs: bool,
    /// The next hop, as it is in the message; none where the destination is on the link.
    gateway: Option<Vec<u8>>,
    /// This guest's address, likewise.
    source: Option<Vec<u8>>,
}

/// The ways that are known; none to an address that can't be reached.
#[derive(Debug, Default)]
pub(super) struct Ways(BTreeMap<IpAddr, Option<Way>>);

impl Ways {
    /// Looks at the ways to these addresses. Those that were looked at before are left as they
    /// were: a change of theirs is still to be found.
    pub(super) async fn follow(&mut self, addresses: BTreeSet<IpAddr>) {
        let mut now = look(addresses).await;
        for (address, way) in &mut now {
            if let Some(before) = self.0.remove(address) {
                *way = before;
            }
        }
        self.0 = now;
    }

    /// Looks again, and says whether a way differs from before.
    pub(super) async fn changed(&mut self) -> bool {
        let now = look(self.0.keys().copied().collect()).await;
        let changed = now != self.0;
        self.0 = now;
        changed
    }
}

/// Asks the kernel, on a thread of its own: it may be busy with its tables.
async fn look(addresses: BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Option<Way>> {
    aside("way", move || {
        let kernel = Kernel::new();
        let kernel = kernel.inspect_err(|error| debug!(%error, "the kernel can't be asked"));
        let kernel = kernel.ok();
        let way = |address| {
            (
                address,
                kernel.as_ref().and_then(|kernel| kernel.way(address)),
            )
        };
        addresses.into_iter().map(way).collect()
    })
    .await
}

/// `struct nlmsghdr`, `struct rtmsg` and `struct ifinfomsg` in bytes (netlink(7), rtnetlink(7)).
const HEADER: usize = 16;
const ROUTE: usize = 12;
const LINK: usize = 16;

/// A socket to ask rtnetlink on.
struct Kernel(OwnedFd);

impl Kernel {
    fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        Ok(Self(fd))
    }

    /// The way to an address; none where there is none.
    fn way(&self, address: IpAddr) -> Option<Way> {
        let (family, bytes) = match address.to_canonical() {
            IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
        };
        // Family and length of the destination; the rest of the struct is zero.
        let mut body = vec![0; ROUTE];
        let bits = u8::try_from(bytes.len() * 8).ok()?;
        body.splice(..2, [u8::try_from(family).ok()?, bits]);
        body.extend(u16::try_from(4 + bytes.len()).ok()?.to_ne_bytes());
        body.extend(RTA_DST.to_ne_bytes());
        body.extend(&bytes);
        let answer = self.ask(RTM_GETROUTE, RTM_NEWROUTE, &body)?;
        let attributes = attributes(answer.get(ROUTE..)?);
        let of = |kind| attributes.get(&kind).map(|value| value.to_vec());
        let interface = of(RTA_OIF)?.try_into().ok().map(u32::from_ne_bytes)?;
        Some(Way {
            interface,
            runs: self.runs(interface),
            gateway: of(RTA_GATEWAY).or_else(|| of(RTA_VIA)),
            source: of(RTA_PREFSRC),
        })
    }

    /// Whether an interface is up and has a carrier.
    fn runs(&self, interface: u32) -> bool {
        let mut body = vec![0; LINK];
        body.splice(4..8, interface.to_ne_bytes());
        let both = u32::try_from(IFF_UP | IFF_RUNNING).unwrap_or_default();
        self.ask(RTM_GETLINK, RTM_NEWLINK, &body)
            .and_then(|answer| answer.get(8..12)?.try_into().ok())
            .is_some_and(|flags| u32::from_ne_bytes(flags) & both == both)
    }

    /// Sends a request, and returns the body of the answer if it is of that kind. The kernel
    /// answers before the request has been sent.
    fn ask(&self, request: u16, answer: u16, body: &[u8]) -> Option<Vec<u8>> {
        let mut message = u32::try_from(HEADER + body.len())
            .ok()?
            .to_ne_bytes()
            .to_vec();
        message.extend(request.to_ne_bytes());
        message.extend(u16::try_from(NLM_F_REQUEST).ok()?.to_ne_bytes());
        // Sequence number and sender: one request at a time needs neither.
        message.extend([0; 8]);
        message.extend(body);
        let (fd, kernel) = (self.0.as_raw_fd(), NetlinkAddr::new(0, 0));
        sendto(fd, &message, &kernel, MsgFlags::empty()).ok()?;
        // A longer message is cut: what comes first is enough.
        let mut buffer = vec![0; 4096];
        let length = recv(fd, &mut buffer, MsgFlags::empty()).ok()?;
        buffer.truncate(length);
        let kind = buffer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
        (kind == answer).then(|| buffer.split_off(HEADER.min(length)))
    }
}

/// The attributes of a message by their kind: length, kind, value, padding to 4 bytes.
fn attributes(mut bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    let mut found = BTreeMap::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let [a, b, c, d] = *head;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = length.checked_sub(4).and_then(|length| rest.get(..length)) else {
            break;
        };
        found.insert(u16::from_ne_bytes([c, d]), value);
        bytes = rest
            .get(value.len().next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests;
