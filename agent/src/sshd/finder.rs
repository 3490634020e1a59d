//! Searches for sshd: files name the candidate addresses, and the kernel says which have a
//! listener.
//!
//! | place | is dialled |
//! |---|---|
//! | `Port` and `ListenAddress` of sshd_config(5) | when root listens there |
//! | `ListenStream=` of `ssh.socket`, if it is enabled | the same |
//! | port 22 of the loopback addresses, if neither of those says where | when somebody listens |
//! | 5 s later: sockets of root's that a unit of sshd opened | as above if they have one port, or else once for each socket |
//! | 30 s later: port 22, `ssh.socket` if it is not enabled, `sshd-unix-local.socket` | as above |
//! | 30 s later: sockets of root's that no unit opened, or systemd itself | once for each socket |
//!
//! The first row that fits wins. An address without a listener is never dialled, so the search
//! leaves no line in sshd's log. Sockets that other units opened are never dialled: the forwarded
//! port of a container leads to another sshd.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::address::Address;
use super::listening::{self, Listener};
use super::openers::{Opener, Openers};
use super::place::{Place, at, is_trusted, list, over_ipv4, places, usual};
use super::settings;
use crate::status::model::FoundBy;

/// How long the agent waits for a listener at the first places before it tries the later ones:
/// during boot, other services may listen before sshd does.
const LATE: Duration = Duration::from_secs(30);

/// How long the agent waits for a listener at the first places before it dials the sockets of
/// sshd's units: while sshd restarts, the unit may hold forwarded ports of `ssh -R`.
pub(super) const EARLY: Duration = Duration::from_secs(5);

/// How long a socket is not dialled again that accepted a connection and sent nothing.
pub(super) const SILENT: Duration = Duration::from_secs(300);

/// The same for a socket that a unit of sshd opened: a slow sshd may take longer than the search.
const SLOW: Duration = Duration::from_secs(30);

/// The most sockets that are dialled at once.
const MOST: usize = 16;

/// The next step of the search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Check this place.
    Check(Place),
    /// Read the banner of each of these: it tells which one is sshd. A silent one is not asked
    /// again for this time.
    Ask(Vec<Place>, Duration),
    /// No candidate has a listener. sshd is expected at this place.
    Wait(Place),
    /// Stay at the place of before: this process lacks the descriptors or the memory to search.
    Stay,
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
    /// Selects the place where the kernel can't list sockets.
    turn: usize,
    /// Lists the listening sockets.
    pub(super) all: fn() -> io::Result<Vec<Listener>>,
    /// Reads which units may have opened them.
    pub(super) openers: fn() -> Openers,
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
            all: listening::all,
            openers: Openers::read,
            looked_at: String::new(),
        }
    }

    /// The places of the last choice, for messages.
    pub(super) fn looked_at(&self) -> String {
        self.looked_at.clone()
    }

    /// Excludes the socket at a place for this `time`, or for its life if there is none. Returns
    /// whether it was not excluded before.
    pub(super) fn pass_over(
        &mut self,
        place: &Place,
        time: Option<Duration>,
        now: Instant,
    ) -> bool {
        let inode = place
            .inode
            .filter(|inode| !self.is_passed_over(*inode, now));
        inode
            .map(|inode| self.passed_over.insert(inode, time.map(|time| now + time)))
            .is_some()
    }

    fn is_passed_over(&self, inode: u32, now: Instant) -> bool {
        let until = self.passed_over.get(&inode);
        until.is_some_and(|until| until.is_none_or(|until| until > now))
    }

    /// Whether the kernel now lists a listener at another place that goes before this one.
    pub(super) fn has_better(&mut self, place: &Address, now: Instant) -> bool {
        match self.choose(now) {
            Choice::Check(found) => found.inode.is_some() && found.address != *place,
            Choice::Ask(list, _) => list.iter().all(|found| found.address != *place),
            Choice::Wait(_) | Choice::Stay => false,
        }
    }

    /// The check of the last choice has failed: where the kernel can't list sockets, the next
    /// place is chosen.
    pub(super) fn failed(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// Reads the files, asks the kernel for listeners, and chooses the next step.
    pub(super) fn choose(&mut self, now: Instant) -> Choice {
        let (first, later) = places(&self.root);
        let listeners = match (self.all)() {
            Ok(listeners) => listeners,
            Err(error) if is_shortage(&error) => return Choice::Stay,
            Err(_) => {
                // Without the list of sockets, only a connection tells.
                let places = || first.iter().chain(&later);
                self.looked_at = list(places());
                let place = places().cycle().nth(self.turn % places().count().max(1));
                return Choice::Check(place.cloned().unwrap_or_else(usual));
            }
        };
        // Unix sockets are not in the list.
        let named = first.iter().chain(&later).filter_map(Place::listener);
        let owners = listeners.iter().map(|found| found.owner).chain(named);
        let inodes: Vec<_> = owners.map(|owner| owner.inode).collect();
        self.passed_over.retain(|inode, _| inodes.contains(inode));
        self.looked_at = list(first.iter()) + ", and the sockets of sshd's units";
        if let Some(found) = first.iter().find_map(|place| self.listens(place, now)) {
            self.missing = None;
            return Choice::Check(found);
        }
        let since = *self.missing.get_or_insert(now);
        let openers = (self.openers)();
        let sockets = |opener| self.sockets(&listeners, &openers, opener, now);
        if now >= since + EARLY {
            let likely = sockets(Opener::Sshd);
            if let Some(sole) = sole(&likely) {
                return Choice::Check(sole);
            }
            if !likely.is_empty() {
                return Choice::Ask(likely, SLOW);
            }
        }
        if now >= since + LATE {
            self.looked_at = list(first.iter().chain(&later)) + ", and the sockets of root";
            if let Some(found) = later.iter().find_map(|place| self.listens(place, now)) {
                return Choice::Check(found);
            }
            let unlikely = self.sockets(&listeners, &openers, Opener::Unknown, now);
            if !unlikely.is_empty() {
                return Choice::Ask(unlikely, SILENT);
            }
        }
        Choice::Wait(first.into_iter().next().unwrap_or_else(usual))
    }

    /// The place with its socket, if that socket may be dialled.
    fn listens(&self, place: &Place, now: Instant) -> Option<Place> {
        let owner = place.listener()?;
        let address = match place.address {
            Address::Tcp(address) => over_ipv4(address, owner.inode).into(),
            Address::Unix(_) => place.address.clone(),
        };
        (!self.is_passed_over(owner.inode, now)).then(|| Place {
            address,
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
            .filter(|listener| openers.of(listener.cgroup, listener.address.port()) == opener)
            .filter(|listener| !self.is_passed_over(listener.owner.inode, now))
            .map(|listener| {
                let inode = listener.owner.inode;
                (over_ipv4(settings::local(listener.address), inode), inode)
            })
            .collect();
        found.sort_by_key(|(at, _)| (at.port() != 22, at.is_ipv6(), !at.ip().is_loopback(), *at));
        let place = |(address, inode)| Place {
            inode: Some(inode),
            ..at(Address::Tcp(address), FoundBy::ListeningSocket)
        };
        found.into_iter().take(MOST).map(place).collect()
    }
}

/// The first of these places, if they all have one port: they are the sockets of one server.
fn sole(places: &[Place]) -> Option<Place> {
    let port = |place: &Place| match &place.address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) => None,
    };
    let first = places.first()?;
    let one = places.iter().all(|place| port(place) == port(first));
    one.then(|| first.clone())
}

/// Whether this process or the kernel lacks memory or descriptors for the moment.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)
    )
}

#[cfg(test)]
mod tests;
