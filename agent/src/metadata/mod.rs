//! Where the tunnel document comes from: the sources in order, and the rule that keeps
//! *absent*, *failed* and *empty* apart.
//!
//! ```text
//!  credential ─┐
//!  file ───────┤                                          ┌─> document (watch)
//!  cloud-init ─┼─> walk ── readings ──> decide ── publish ┼─> the metadata slice
//!  openstack ──┤     ^                  (pure)            └─> facts (watch)
//!  ec2 ────────┘     └── timer, file changes, nudges
//! ```
//!
//! One task, [`run`], owns all of it. A round walks the [`sources`] up to the first document,
//! [`decide()`] says what follows, [`schedule`] when to look again; [`watch`] and nudges cut the
//! wait short. Files that only root may read come through [`inputs`].

pub mod check;
pub mod decide;
pub mod document;
pub mod host_keys;
pub mod inputs;
pub mod key;
pub mod reading;
pub mod sources;

mod content;
#[cfg(test)]
mod fixtures;
mod schedule;
mod tree;
mod watch;
mod yaml;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::config::Config;
use crate::explain::Explain;
use crate::status::board::Slice;
use crate::status::model::{self, Fault, MetadataState, Timestamp};

use decide::{Decision, Found, decide};
use document::Document;
use reading::SourceFault;
use schedule::{Outcome, Schedule};
use sources::Sources;
use watch::Watch;

pub use sources::{Facts, Places};

/// The least time between two rounds that a rejected key asks for.
const AUTH_PAUSE: Duration = Duration::from_secs(2);

/// How often changing files may begin a round anew; then it goes on to the sources behind them.
const RESTARTS: u32 = 10;

/// News from outside that the metadata may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Somebody asks for it: SIGHUP, or a machine that woke up.
    Reload,
    /// The proxy rejected our key; perhaps there is a new one.
    AuthFault,
}

/// Reads the sources for as long as it is polled; dropping it is the way to end it.
pub async fn run(
    config: Config,
    slice: Slice<model::Metadata>,
    nudges: mpsc::Receiver<Nudge>,
    out: channel::Sender<Option<Arc<Document>>>,
    facts: channel::Sender<Facts>,
) {
    run_in(Places::system(), config, slice, nudges, out, facts).await;
}

/// [`run`], with the local sources in other places.
pub async fn run_in(
    places: Places,
    config: Config,
    slice: Slice<model::Metadata>,
    mut nudges: mpsc::Receiver<Nudge>,
    out: channel::Sender<Option<Arc<Document>>>,
    facts: channel::Sender<Facts>,
) {
    let mut sources = Sources::new(&config, places);
    let mut watch = Watch::new(sources.watched());
    let mut publisher = Publisher {
        slice,
        out,
        last_good: None,
        last_fault: None,
    };
    let mut schedule = Schedule::default();
    let start = Instant::now();
    loop {
        let readings = walk(&mut sources, &mut watch).await;
        let outcome = publisher.publish(decide(publisher.last_good.as_ref(), &readings));
        let ended = Instant::now();
        let pause = schedule.after(outcome, ended - start, fastrand::f64());
        let round = Round {
            next: ended + pause,
            after_auth_fault: ended + AUTH_PAUSE,
        };
        round
            .wait(&mut sources, &mut watch, &mut nudges, &facts)
            .await;
    }
}

/// One round. A file that changes meanwhile is not kept waiting by a service that is slow.
async fn walk(
    sources: &mut Sources,
    watch: &mut Watch,
) -> Vec<(crate::config::SourceName, reading::Reading)> {
    for _ in 0..RESTARTS {
        tokio::select! {
            readings = sources.walk() => return readings,
            () = watch.changed() => {}
        }
    }
    sources.walk().await
}

struct Round {
    next: Instant,
    after_auth_fault: Instant,
}

impl Round {
    /// Waits until it is time for another round. The facts are gathered meanwhile: they are of
    /// no use before the document, and must not hold it up.
    async fn wait(
        mut self,
        sources: &mut Sources,
        watch: &mut Watch,
        nudges: &mut mpsc::Receiver<Nudge>,
        facts: &channel::Sender<Facts>,
    ) {
        let before = facts.borrow().clone();
        let gather = sources.facts(before);
        tokio::pin!(gather);
        let (mut gathering, mut listening) = (true, true);
        loop {
            tokio::select! {
                () = sleep_until(self.next) => return,
                () = watch.changed() => return,
                nudge = nudges.recv(), if listening => match nudge {
                    Some(Nudge::Reload) => return,
                    Some(Nudge::AuthFault) => self.next = self.next.min(self.after_auth_fault),
                    None => listening = false,
                },
                found = &mut gather, if gathering => {
                    gathering = false;
                    facts.send_if_modified(|known| {
                        let changed = *known != found;
                        *known = found;
                        changed
                    });
                }
            }
        }
    }
}

/// Makes decisions known, each thing once.
struct Publisher {
    slice: Slice<model::Metadata>,
    out: channel::Sender<Option<Arc<Document>>>,
    last_good: Option<Found>,
    last_fault: Option<SourceFault>,
}

impl Publisher {
    fn publish(&mut self, decision: Decision) -> Outcome {
        match decision {
            Decision::Take(found, fault) => {
                self.note(fault.as_ref());
                self.slice.update(|slice| {
                    slice.state = MetadataState::Found;
                    slice.source = Some(found.source.as_str().to_owned());
                    slice.fetched_at = Some(Timestamp::now());
                    slice.warnings.clone_from(&found.document.warnings);
                    slice.fault = fault.map(|fault| Fault::after(slice.fault.as_ref(), &fault));
                });
                self.take(found);
                Outcome::Found
            }
            Decision::Keep(fault) => {
                self.failed(&fault);
                Outcome::Failed
            }
            Decision::Fail(fault) => {
                self.withdraw();
                self.failed(&fault);
                Outcome::Failed
            }
            Decision::Drop(blank) => {
                self.note(None);
                self.withdraw();
                self.slice.update(|slice| {
                    slice.state = MetadataState::Absent;
                    slice.fault = blank.map(|blank| Fault::after(slice.fault.as_ref(), &blank));
                });
                Outcome::Absent
            }
        }
    }

    fn failed(&mut self, fault: &SourceFault) {
        self.note(Some(fault));
        self.slice.update(|slice| {
            slice.state = MetadataState::Failed;
            slice.fault = Some(Fault::after(slice.fault.as_ref(), fault));
        });
    }

    fn take(&mut self, found: Found) {
        let before = self.last_good.replace(found.clone());
        if before.is_some_and(|before| before.document == found.document) {
            return;
        }
        let source = found.source.as_str();
        match &found.document.tunnel {
            Some(tunnel) => info!(
                source,
                proxy = tunnel.proxies.first().map(tracing::field::display),
                bind = tunnel.forward.bind,
                port = tunnel.forward.port,
                key = %tunnel.login.key.fingerprint(russh::keys::HashAlg::Sha256),
                "a tunnel document is in force"
            ),
            None => info!(source, "a document without a tunnel is in force"),
        }
        for warning in &found.document.warnings {
            warn!(source, "{warning}");
        }
        self.out.send_replace(Some(found.document));
    }

    fn withdraw(&mut self) {
        if let Some(before) = self.last_good.take() {
            info!(
                source = before.source.as_str(),
                "the tunnel document is gone"
            );
            self.out.send_replace(None);
        }
        self.slice.update(|slice| {
            slice.source = None;
            slice.fetched_at = None;
            slice.warnings.clear();
        });
    }

    /// Says in the journal what has failed, once until it is something else.
    fn note(&mut self, fault: Option<&SourceFault>) {
        // How a service can't be reached changes with the weather.
        let silent = |fault: Option<&SourceFault>| fault.is_some_and(SourceFault::is_unreachable);
        let before = self.last_fault.as_ref();
        if before == fault || silent(before) && silent(fault) {
            return;
        }
        self.last_fault = fault.cloned();
        match fault {
            // As on every machine that has no such service.
            Some(fault) if fault.is_unreachable() && self.last_good.is_none() => {
                info!(code = fault.code(), "no metadata service: {fault}");
            }
            Some(fault) => warn!(code = fault.code(), "metadata: {fault}"),
            None => info!("the metadata is without fault again"),
        }
    }
}

#[cfg(test)]
mod tests;
