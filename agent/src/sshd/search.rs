//! The watcher's search for sshd, and the address that it publishes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info};

use super::address::Address;
use super::fault::{CheckError, Reason};
use super::finder::{self, Choice, Finder, Place};
use super::leave::take_leave;
use super::timing::SILENT;
use super::{Watcher, read_banner};
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, FoundBy};

/// The sshd to watch: at the configured address, or at the one that a search finds.
#[derive(Debug)]
pub struct Target {
    /// The address that users' connections are dialled to.
    address: watch::Sender<Address>,
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
        Self {
            finder: Some(Finder::new(root)),
            ..Self::from(SocketAddr::from(([127, 0, 0, 1], 22)))
        }
    }

    /// The address that users' connections are dialled to.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Address> {
        self.address.subscribe()
    }

    /// Publishes the place of the checks as the address for users' connections.
    fn publish(&self, slice: &Slice<model::Sshd>) {
        let address = &self.place.address;
        let changed = self.address.send_if_modified(|before| {
            let changed = before != address;
            before.clone_from(address);
            changed
        });
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
        let address = address.into();
        Self {
            address: watch::Sender::new(address.clone()),
            place: Place {
                address,
                by: FoundBy::Configuration,
                inode: None,
            },
            finder: None,
        }
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
            Choice::Wait(place) => {
                let stranger = finder::stranger(&place);
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
            Choice::Ask(places) => {
                if let Some((place, met)) = self.ask(places).await {
                    self.settle(place);
                    return Ok(Some(met));
                }
            }
        }
        Ok(None)
    }

    /// Selects the place of the next check. Users' connections follow at once, unless sshd is ready
    /// and still listens at the old address: then they follow after the check.
    fn settle(&mut self, place: Place) {
        let stays =
            self.state.borrow().is_ready() && self.target.address.borrow().listener().is_some();
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
    /// wins.
    async fn ask(&mut self, places: Vec<Place>) -> Option<(Place, Met)> {
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
                Err(reason) => {
                    let silent = matches!(reason, Reason::Silent(_) | Reason::Down(_));
                    if let (Some(finder), Some(place)) =
                        (&mut self.target.finder, places.get(index))
                    {
                        finder.pass_over(place, silent, Instant::now());
                    }
                }
            }
        }
        let (index, met) = best?;
        Some((places.get(index)?.clone(), met))
    }

    /// Excludes the place where `error` occurred, if another server listens there and the address
    /// is not configured. Returns whether the search should continue.
    pub(super) fn is_elsewhere(&mut self, error: &CheckError) -> bool {
        let place = &self.target.place;
        let finder = self.target.finder.as_mut();
        error.is_of_another_server()
            && finder.is_some_and(|finder| finder.pass_over(place, false, Instant::now()))
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
        Choice::Ask(places) => {
            let addresses: Vec<_> = places
                .iter()
                .map(|place| place.address.to_string())
                .collect();
            format!(
                "sshd is one of the listening sockets on {}",
                addresses.join(", ")
            )
        }
        Choice::Wait(place) => format!(
            "sshd is expected on {} ({}), and nobody listens there",
            place.address, place.by
        ),
    }
}
