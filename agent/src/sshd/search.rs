//! The watcher's search for sshd, and the address that it publishes.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info};

use super::address::Address;
use super::fault::{CheckError, Reason};
use super::finder::{Choice, Finder, SILENT as PASS_OVER};
use super::leave::take_leave;
use super::place::{Place, usual};
use super::timing::SILENT;
use super::{Watcher, read_banner};
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, FoundBy};

/// The sshd to watch: at the configured address, or at the one that a search finds.
#[derive(Debug)]
pub struct Target {
    /// The place that users' connections are dialled to.
    users: watch::Sender<Place>,
    /// The place that the next check dials.
    pub(super) place: Place,
    pub(super) finder: Option<Finder>,
}

/// The result of a banner that the search read.
pub(super) struct Met {
    pub(super) banner: String,
    pub(super) latency: Duration,
    /// Whether sshd saw the source address of the check's origin.
    pub(super) apart: bool,
}

impl Target {
    /// The sshd at the address in `[bridge] sshd`, or else one that the search is to find.
    #[must_use]
    pub fn new(configured: Option<Address>) -> Self {
        configured.map_or_else(|| Self::searched("/".as_ref()), Self::from)
    }

    /// An sshd that the search is to find, with the files below `root`.
    pub(super) fn searched(root: &Path) -> Self {
        Self::new_at(usual(), Some(Finder::new(root)))
    }

    fn new_at(place: Place, finder: Option<Finder>) -> Self {
        Self {
            users: watch::Sender::new(place.clone()),
            place,
            finder,
        }
    }

    /// The address that users' connections are dialled to.
    #[must_use]
    pub fn address(&self) -> Address {
        self.users.borrow().address.clone()
    }

    /// The place that users' connections are dialled to.
    pub(super) fn subscribe(&self) -> watch::Receiver<Place> {
        self.users.subscribe()
    }

    /// Publishes the place of the checks as the address for users' connections.
    fn publish(&self, slice: &Slice<model::Sshd>) {
        let address = &self.place.address;
        let before = self.users.send_replace(self.place.clone());
        let changed = before.address != *address;
        if changed {
            info!(%address, found_by = %self.place.by, "sshd is expected here now");
        }
        slice.update(|sshd| {
            sshd.address = address.to_string();
            sshd.found_by = Some(self.place.by);
        });
    }
}

impl<T: Into<Address>> From<T> for Target {
    fn from(address: T) -> Self {
        let place = Place {
            address: address.into(),
            by: FoundBy::Configuration,
            inode: None,
            local_only: false,
        };
        Self::new_at(place, None)
    }
}

impl Watcher {
    /// Searches for sshd, unless its address is configured. Returns sshd's banner if the search
    /// read it.
    ///
    /// # Errors
    /// Another user listens on sshd's port.
    pub(super) async fn locate(&mut self) -> Result<Option<Met>, CheckError> {
        let Some(finder) = &mut self.target.finder else {
            self.target.publish(&self.slice);
            return Ok(None);
        };
        match finder.choose(Instant::now()) {
            Choice::Check(place) => self.settle(place),
            Choice::Stay => {}
            // The sshd that was ready is passed over, or not yet due in the order of the search.
            Choice::Wait(_) if self.users_are_served() => self.go_back(),
            Choice::Wait(place) => {
                let stranger = place.stranger();
                let address = place.address.clone();
                self.settle(place);
                if let Some(uid) = stranger {
                    return Err(CheckError {
                        address,
                        reason: Reason::Stranger(uid),
                        looked_at: None,
                    });
                }
            }
            Choice::Ask(places, pause) => {
                // The sshd of before has as long as it takes.
                let known = &self.target.users.borrow().address.clone();
                let known = places.iter().find(|place| place.address == *known);
                if let Some(place) = known {
                    self.settle(place.clone());
                } else if let Some((place, met)) = self.ask(places, pause).await {
                    self.settle(place);
                    return Ok(Some(met));
                }
            }
        }
        Ok(None)
    }

    /// Whether sshd is ready, and still listens at the place that users' connections are dialled
    /// to.
    fn users_are_served(&self) -> bool {
        self.state.borrow().is_ready() && self.target.users.borrow().listener().is_some()
    }

    /// Whether users' connections are led to a ready sshd at another place than the check.
    pub(super) fn is_tentative(&self) -> bool {
        self.target.users.borrow().address != self.target.place.address && self.users_are_served()
    }

    /// Selects the place of users' connections for the next check.
    fn go_back(&mut self) {
        self.target.place = self.target.users.borrow().clone();
    }

    /// Selects the place of the next check. Users' connections follow at once, unless sshd is ready
    /// and still listens at the old address: then they follow after the check.
    fn settle(&mut self, place: Place) {
        let stays = self.users_are_served();
        self.target.place = place;
        if !stays {
            self.target.publish(&self.slice);
        }
    }

    /// Publishes the place of the last check.
    pub(super) fn show_place(&self) {
        self.target.publish(&self.slice);
    }

    /// Reads the banners of all these places at once. The first place in the list that is an sshd
    /// wins. A silent one is passed over for this `pause`.
    async fn ask(&mut self, places: Vec<Place>, pause: Duration) -> Option<(Place, Met)> {
        let mut asked = JoinSet::new();
        for (index, place) in places.iter().enumerate() {
            debug!(address = %place.address, "is this sshd?");
            let (address, dialer) = (place.address.clone(), self.dialer.clone());
            asked.spawn(async move { (index, meet(&address, &dialer).await) });
        }
        let mut best: Option<(usize, Met)> = None;
        while let Some(answer) = asked.join_next().await {
            let Ok((index, answer)) = answer else {
                continue;
            };
            match answer {
                Ok(met) => {
                    if best.as_ref().is_none_or(|(before, _)| index < *before) {
                        best = Some((index, met));
                    }
                }
                // The queue of a busy sshd may be full.
                Err(Reason::Down(_)) => {}
                Err(reason) => {
                    let silent = matches!(reason, Reason::Silent(_));
                    if let (Some(finder), Some(place)) =
                        (&mut self.target.finder, places.get(index))
                    {
                        finder.pass_over(place, silent.then_some(pause), Instant::now());
                    }
                }
            }
        }
        let (index, met) = best?;
        Some((places.get(index)?.clone(), met))
    }

    /// Excludes the place where `error` occurred, if another server listens there, or if a ready
    /// sshd listens elsewhere. A configured address is not excluded. Returns whether the search
    /// should continue.
    pub(super) fn is_elsewhere(&mut self, error: &CheckError) -> bool {
        let time = match (error.is_of_another_server(), self.is_tentative()) {
            (true, _) => None,
            (false, true) => Some(PASS_OVER),
            (false, false) => return false,
        };
        let place = &self.target.place;
        let finder = self.target.finder.as_mut();
        finder.is_some_and(|finder| finder.pass_over(place, time, Instant::now()))
    }

    /// Whether sshd now listens at a place that goes before the current one.
    pub(super) fn has_moved(&mut self) -> bool {
        let address = &self.target.place.address;
        let finder = self.target.finder.as_mut();
        finder.is_some_and(|finder| finder.has_better(address, Instant::now()))
    }

    /// The places where the agent searched for sshd, for messages.
    pub(super) fn looked_at(&self) -> Option<String> {
        self.target.finder.as_ref().map(Finder::looked_at)
    }
}

/// Reads the banner of the server at `address`.
async fn meet(address: &Address, dialer: &Dialer) -> Result<Met, Reason> {
    let began = Instant::now();
    let dialled = address.dial(dialer, &Origin::Check).await;
    let mut stream = dialled.map_err(Reason::Down)?;
    let banner = read_banner(&mut stream, SILENT).await?;
    take_leave(&stream, &banner);
    Ok(Met {
        banner,
        latency: began.elapsed(),
        apart: dialer.is_own(&stream, &Origin::Check),
    })
}

/// Where `vmagent check-config` reports that sshd is expected. Dials nothing.
#[must_use]
pub fn expected(configured: Option<&Address>) -> String {
    if let Some(address) = configured {
        return format!("sshd is expected on {address} ({})", FoundBy::Configuration);
    }
    let mut finder = Finder::new("/".as_ref());
    match finder.choose(Instant::now()) {
        Choice::Check(place) => format!("sshd is expected on {} ({})", place.address, place.by),
        Choice::Ask(places, _) => {
            let addresses: Vec<_> = places
                .iter()
                .map(|place| place.address.to_string())
                .collect();
            format!(
                "sshd is one of the listening sockets on {}",
                addresses.join(", ")
            )
        }
        Choice::Stay => "this process can't list sockets, to find sshd".to_owned(),
        Choice::Wait(place) => format!(
            "sshd is expected on {} ({}), and nobody listens there",
            place.address, place.by
        ),
    }
}

#[cfg(test)]
mod tests;
