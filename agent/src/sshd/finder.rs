//! Searches for sshd: files name the candidate addresses, and the kernel says which have a
//! listener.
//!
//! | place | is dialled |
//! |---|---|
//! | `Port` and `ListenAddress` of sshd_config(5) | when root listens there |
//! | `ListenStream=` of `ssh.socket`, if it is enabled | the same |
//! | port 22 of the loopback addresses, if neither of those says where | when somebody listens |
//! | sockets of root's that a unit of sshd opened | once for each socket |
//! | 30 s later: port 22, `ssh.socket` if it is not enabled, `sshd-unix-local.socket` | as above |
//! | 30 s later: sockets of root's that no unit opened, or systemd itself | once for each socket |
//!
//! The first row that fits wins. An address without a listener is never dialled, so the search
//! leaves no line in sshd's log. Sockets that other units opened are never dialled: the forwarded
//! port of a container leads to another sshd.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::time::Instant;

use super::address::Address;
use super::listening::{self, Listener, Owner};
use super::openers::{Opener, Openers};
use super::settings::{self, Settings};
use super::units;
use crate::status::model::FoundBy;

/// How long the agent waits for a listener at the first places before it tries the later ones:
/// during boot, other services may listen before sshd does.
const LATE: Duration = Duration::from_secs(30);

/// How long a socket is not dialled again that accepted a connection and sent nothing.
const SILENT: Duration = Duration::from_secs(300);

/// The most sockets that are dialled at once.
const MOST: usize = 16;

/// A candidate address of sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) by: FoundBy,
    /// The inode of the socket that listens there, if the kernel says so.
    pub(super) inode: Option<u32>,
}

/// The next step of the search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Check this place.
    Check(Place),
    /// Read the banner of each of these: it tells which one is sshd.
    Ask(Vec<Place>),
    /// No candidate has a listener. sshd is expected at this place.
    Wait(Place),
}

/// The search for sshd.
#[derive(Debug)]
pub(super) struct Finder {
    /// The root of the files that are read.
    root: PathBuf,
    /// Sockets that are not dialled before this time, or never if there is none.
    passed_over: HashMap<u32, Option<Instant>>,
    /// Since when the first places have had no listener.
    missing: Option<Instant>,
    /// Selects the next place where the kernel can't list sockets.
    turn: usize,
    /// The places of the last choice, for messages.
    looked_at: String,
}

impl Finder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            passed_over: HashMap::new(),
            missing: None,
            turn: 0,
            looked_at: String::new(),
        }
    }

    /// The places of the last choice, for messages.
    pub(super) fn looked_at(&self) -> String {
        self.looked_at.clone()
    }

    /// Excludes the socket at a place that is not sshd: for its life, or for [`SILENT`] if it was
    /// `silent`. Returns whether it was not excluded before.
    pub(super) fn pass_over(&mut self, place: &Place, silent: bool, now: Instant) -> bool {
        let until = silent.then(|| now + SILENT);
        let inode = place
            .inode
            .filter(|inode| !self.is_passed_over(*inode, now));
        inode
            .map(|inode| self.passed_over.insert(inode, until))
            .is_some()
    }

    fn is_passed_over(&self, inode: u32, now: Instant) -> bool {
        let until = self.passed_over.get(&inode);
        until.is_some_and(|until| until.is_none_or(|until| until > now))
    }

    /// Whether the choice is now another place than this one.
    pub(super) fn has_better(&mut self, place: &Address, now: Instant) -> bool {
        match self.choose(now) {
            Choice::Check(found) => found.address != *place,
            Choice::Ask(list) => list.iter().all(|found| found.address != *place),
            Choice::Wait(_) => false,
        }
    }

    /// Reads the files, asks the kernel for listeners, and chooses the next step.
    pub(super) fn choose(&mut self, now: Instant) -> Choice {
        let (first, mut later) = places(&self.root);
        let Ok(listeners) = listening::all() else {
            // Without the list of sockets, only a connection tells: dial the places in turn.
            self.looked_at = list(first.iter().chain(&later));
            self.turn = (self.turn + 1) % (first.len() + later.len());
            later.extend(first);
            later.rotate_right(self.turn);
            return later
                .pop()
                .map_or_else(|| Choice::Wait(port_22(V4)), Choice::Check);
        };
        let inodes: Vec<_> = listeners.iter().map(|found| found.owner.inode).collect();
        self.passed_over.retain(|inode, _| inodes.contains(inode));
        self.looked_at = list(first.iter()) + ", and the sockets of sshd's units";
        if let Some(found) = first.iter().find_map(|place| self.listens(place, now)) {
            self.missing = None;
            return Choice::Check(found);
        }
        let since = *self.missing.get_or_insert(now);
        let openers = Openers::read();
        let sockets = |opener| self.sockets(&listeners, &openers, opener, now);
        let likely = sockets(Opener::Sshd);
        if !likely.is_empty() {
            return Choice::Ask(likely);
        }
        if now >= since + LATE {
            self.looked_at = list(first.iter().chain(&later)) + ", and the sockets of root";
            if let Some(found) = later.iter().find_map(|place| self.listens(place, now)) {
                return Choice::Check(found);
            }
            let unlikely = self.sockets(&listeners, &openers, Opener::Unknown, now);
            if !unlikely.is_empty() {
                return Choice::Ask(unlikely);
            }
        }
        Choice::Wait(first.into_iter().next().unwrap_or_else(|| port_22(V4)))
    }

    /// The place with its socket, if that socket may be dialled.
    fn listens(&self, place: &Place, now: Instant) -> Option<Place> {
        let owner = place.address.listener()?;
        // Only root can bind port 22; any user may bind a port above 1023 while sshd is down.
        let trusted = place.by == FoundBy::Port22 || is_trusted(owner);
        (trusted && !self.is_passed_over(owner.inode, now)).then(|| Place {
            inode: Some(owner.inode),
            ..place.clone()
        })
    }

    /// The sockets of root's that this kind of process opened, one place for each.
    fn sockets(
        &self,
        listeners: &[Listener],
        openers: &Openers,
        opener: Opener,
        now: Instant,
    ) -> Vec<Place> {
        let mut found: Vec<_> = listeners
            .iter()
            .filter(|listener| is_trusted(listener.owner))
            .filter(|listener| openers.of(listener.cgroup) == opener)
            .filter(|listener| !self.is_passed_over(listener.owner.inode, now))
            .map(|listener| (settings::local(listener.address), listener.owner.inode))
            .collect();
        found.sort_by_key(|(at, _)| (at.port() != 22, at.is_ipv6(), !at.ip().is_loopback(), *at));
        let place = |(address, inode)| Place {
            inode: Some(inode),
            ..at(Address::Tcp(address), FoundBy::ListeningSocket)
        };
        found.into_iter().take(MOST).map(place).collect()
    }
}

/// Whether a listener may be sshd: it is root's, or belongs to the user of this process, who gains
/// nothing by posing as sshd.
fn is_trusted(owner: Owner) -> bool {
    owner.uid == 0 || owner.uid == geteuid().as_raw()
}

/// The user who listens at this place, unless that listener may be sshd.
pub(super) fn stranger(place: &Place) -> Option<u32> {
    let owner = place.address.listener()?;
    (place.by != FoundBy::Port22 && !is_trusted(owner)).then_some(owner.uid)
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn port_22(ip: IpAddr) -> Place {
    at(SocketAddr::new(ip, 22).into(), FoundBy::Port22)
}

/// A place and its source. Port 22 of a loopback address always counts as the default.
fn at(address: Address, by: FoundBy) -> Place {
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
    }
}

/// The places to check first, and those to check after [`LATE`].
fn places(root: &Path) -> (Vec<Place>, Vec<Place>) {
    let named = Settings::read(root).addresses().into_iter();
    let named = named.map(|address| at(address.into(), FoundBy::SshdConfig));
    let (socket, enabled) = units::ssh_socket(root);
    let socket = socket
        .into_iter()
        .map(|address| at(address, FoundBy::SshSocket));
    let local = units::local_socket(root).into_iter();
    let local = local.map(|address| at(address, FoundBy::SshSocket));
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
    later.retain(|place| first.iter().all(|known| known.address != place.address));
    (first, later)
}

/// The places for messages, each with its source.
fn list<'a>(places: impl Iterator<Item = &'a Place>) -> String {
    let place = |place: &Place| format!("{} ({})", place.address, place.by);
    places.map(place).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
