//! A candidate address of sshd, and the sockets that count there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::unistd::geteuid;

use super::address::Address;
use super::listening::{self, Owner};
use super::settings::Settings;
use super::units;
use crate::origin::Origin;
use crate::status::model::FoundBy;

/// Why the tunnel has no sshd while systemd's unit for local logins is the only one.
pub(super) const LOCAL_ONLY: &str =
    "only systemd's sshd-unix-local.socket listens, and the tunnel does not lead there";

/// A candidate address of sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) by: FoundBy,
    /// The inode of the socket that listens there, if the kernel says so.
    pub(super) inode: Option<u32>,
    /// systemd offers this socket to local logins. It listens also where the administrator has
    /// disabled sshd, and sshd's limits don't act there: the tunnel must not lead to it.
    pub(super) local_only: bool,
}

impl Place {
    /// The socket that listens here, if it may be sshd; `None` also if the kernel can't say.
    pub(super) fn listener(&self) -> Option<Owner> {
        let owner = self.address.listener()?;
        self.admits(owner).then_some(owner)
    }

    /// The user who listens here, unless that socket may be sshd.
    pub(super) fn stranger(&self) -> Option<u32> {
        // The kernel's table does not tell the user of a Unix socket.
        if self.admits_anybody() || matches!(self.address, Address::Unix(_)) {
            return None;
        }
        let owner = self.address.listener()?;
        (!is_trusted(owner)).then_some(owner.uid)
    }

    /// Why a connection of `origin` must not be dialled here, if that is so.
    pub(super) fn refusal(&self, origin: &Origin) -> Option<String> {
        let remote = matches!(origin, Origin::Client { .. } | Origin::Named(_));
        if self.local_only && remote {
            return Some(LOCAL_ONLY.to_owned());
        }
        let uid = self.stranger()?;
        Some(format!("the user {uid}, and not root, listens there"))
    }

    fn admits(&self, owner: Owner) -> bool {
        self.admits_anybody() || is_trusted(owner)
    }

    /// Any user may bind a port above 1023 while sshd is down. Only root can bind port 22, and the
    /// administrator answers for a configured address.
    fn admits_anybody(&self) -> bool {
        matches!(self.by, FoundBy::Port22 | FoundBy::Configuration)
    }
}

/// Whether a listener may be sshd: it is root's, or belongs to the user of this process, who gains
/// nothing by posing as sshd.
pub(super) fn is_trusted(owner: Owner) -> bool {
    owner.uid == 0 || owner.uid == geteuid().as_raw()
}

/// The IPv4 loopback address for an IPv6 one, if the same socket accepts connections to both. Only
/// over IPv4 each origin has an address of its own.
pub(super) fn over_ipv4(address: SocketAddr, inode: u32) -> SocketAddr {
    let v4 = SocketAddr::new(V4, address.port());
    let dual = address.ip() == V6 && listening::look(v4).is_some_and(|v4| v4.inode == inode);
    if dual { v4 } else { address }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The place where anybody expects sshd.
pub(super) fn usual() -> Place {
    port_22(V4)
}

fn port_22(ip: IpAddr) -> Place {
    at(SocketAddr::new(ip, 22).into(), FoundBy::Port22)
}

/// A place and its source. Port 22 of a loopback address always counts as the default.
pub(super) fn at(address: Address, by: FoundBy) -> Place {
    let usual = [V4, V6].map(|ip| Address::Tcp(SocketAddr::new(ip, 22)));
    let by = if usual.contains(&address) {
        FoundBy::Port22
    } else {
        by
    };
    Place {
        address,
        by,
        inode: None,
        local_only: false,
    }
}

/// The places to check first, and those to check later. No address is in them twice.
pub(super) fn places(root: &Path) -> (Vec<Place>, Vec<Place>) {
    let named = Settings::read(root).addresses().into_iter();
    let named = named.map(|address| at(address.into(), FoundBy::SshdConfig));
    let (socket, enabled) = units::ssh_socket(root);
    let socket = socket
        .into_iter()
        .map(|address| at(address, FoundBy::SshSocket));
    let local = units::local_socket(root).into_iter().map(|address| Place {
        local_only: true,
        ..at(address, FoundBy::SshSocket)
    });
    let usual = [V4, V6].map(port_22).into_iter();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    first.extend(named);
    if enabled {
        first.extend(socket);
        later.extend(usual);
    } else if first.is_empty() {
        first.extend(usual);
        later.extend(socket);
    } else {
        later.extend(usual.chain(socket));
    }
    later.extend(local);
    let mut seen = Vec::new();
    for places in [&mut first, &mut later] {
        places.retain(|place: &Place| {
            let new = !seen.contains(&place.address);
            seen.push(place.address.clone());
            new
        });
    }
    (first, later)
}

/// The places for messages, each with its source.
pub(super) fn list<'a>(places: impl Iterator<Item = &'a Place>) -> String {
    let place = |place: &Place| format!("{} ({})", place.address, place.by);
    places.map(place).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
