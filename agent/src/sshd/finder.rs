//! Where sshd may be, without being told: files name places, and the kernel says who listens.
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
//! The first one wins. A place where nobody listens is never dialled, so the search costs nothing
//! in the log of sshd. Sockets that other units opened are left alone: a container's port that is
//! forwarded leads to another sshd.

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

/// How long sshd is expected where it should be before it is looked for elsewhere: as the machine
/// boots, others may listen before it does.
const LATE: Duration = Duration::from_secs(30);

/// How long a socket that took the connection and said nothing is left alone.
const SILENT: Duration = Duration::from_secs(300);

/// How many sockets are asked at once, at most.
const MOST: usize = 16;

/// A place where sshd may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) by: FoundBy,
    /// The socket that listens there, if the kernel says so.
    pub(super) inode: Option<u32>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The check of sshd is to be made there.
    Check(Place),
    /// The banner of each of these tells which is sshd.
    Ask(Vec<Place>),
    /// Nobody listens anywhere. sshd is expected at this place.
    Wait(Place),
}

/// Looks for sshd.
#[derive(Debug)]
pub(super) struct Finder {
    /// The root of the files that are read.
    root: PathBuf,
    /// Sockets that are not to be dialled before this time; without one, never.
    passed_over: HashMap<u32, Option<Instant>>,
    /// Since when nobody listens where sshd should.
    missing: Option<Instant>,
    /// Counts the choices where the kernel does not say who listens.
    turn: usize,
    /// The places of the last choice, for people.
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

    /// The places of the last choice, for people.
    pub(super) fn looked_at(&self) -> String {
        self.looked_at.clone()
    }

    /// Passes over the socket at a place that is no sshd: for good, or if it was `silent`, for a
    /// while. Returns whether that is new.
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

    /// Whether a place before this one, or this one alone, is the choice now.
    pub(super) fn has_better(&mut self, place: &Address, now: Instant) -> bool {
        match self.choose(now) {
            Choice::Check(found) => found.address != *place,
            Choice::Ask(list) => list.iter().all(|found| found.address != *place),
            Choice::Wait(_) => false,
        }
    }

    /// Reads the files, asks the kernel, and chooses.
    pub(super) fn choose(&mut self, now: Instant) -> Choice {
        let (first, mut later) = places(&self.root);
        let Ok(listeners) = listening::all() else {
            // Nothing but a connection tells: each place in its turn.
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

    /// The place with its socket, if that is to be dialled.
    fn listens(&self, place: &Place, now: Instant) -> Option<Place> {
        let owner = place.address.listener()?;
        // Only root can take port 22; any user may listen on another one in its stead.
        let trusted = place.by == FoundBy::Port22 || is_trusted(owner);
        (trusted && !self.is_passed_over(owner.inode, now)).then(|| Place {
            inode: Some(owner.inode),
            ..place.clone()
        })
    }

    /// The sockets of root's that such a process opened, each as one place.
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

/// Who may listen in place of sshd: root, and the user of this process, who needs not to.
fn is_trusted(owner: Owner) -> bool {
    owner.uid == 0 || owner.uid == geteuid().as_raw()
}

/// The user who listens at this place, if it is one who must not be taken for sshd.
pub(super) fn stranger(place: &Place) -> Option<u32> {
    let owner = place.address.listener()?;
    (place.by != FoundBy::Port22 && !is_trusted(owner)).then_some(owner.uid)
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn port_22(ip: IpAddr) -> Place {
    at(SocketAddr::new(ip, 22).into(), FoundBy::Port22)
}

/// A place with what names it; port 22 is where anybody would look.
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

/// The places where sshd is expected, and those where it is looked for later.
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

/// Places for people, each with what names it.
fn list<'a>(places: impl Iterator<Item = &'a Place>) -> String {
    let place = |place: &Place| format!("{} ({})", place.address, place.by);
    places.map(place).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
