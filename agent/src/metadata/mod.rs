//! Where the tunnel document comes from: the sources in order, and the rule that keeps
//! *absent*, *failed* and *empty* apart.
//!
//! ```text
//!  credential ───┐
//!  file ─────────┤
//!  cloud-init ───┤                                          ┌─> document (watch)
//!  config-drive ─┼─> walk ── readings ──> decide ── publish ┼─> the metadata slice
//!  nocloud ──────┤     ^                  (pure)            └─> facts (watch)
//!  url ──────────┤     └── timer, file changes, nudges, word of a source
//!  a cloud's ────┘
//! ```
//!
//! One task, [`run`], owns all of it. A round walks the [`sources`] up to the first document,
//! [`decide::decide`] says what follows, [`schedule`] when to look again; [`watch`], nudges and
//! sources that can tell cut the wait short. Which clouds are asked, [`platform`] says. Files that
//! only root may read come through [`inputs`], and so do those of disks, which are read without a
//! mount ([`volume`]). What is user-data goes through [`userdata`].
//!
//! A document belongs to the machine that it was read on. After a restore from a snapshot, or
//! once a source calls this machine by another name, nothing of before is kept, not even over a
//! failure: key and port may be those of the machine that this one was cloned from.

pub mod check;
pub mod decide;
pub mod document;
pub mod host_keys;
pub mod inputs;
pub mod key;
pub mod reading;
pub mod sources;
pub mod userdata;
pub mod volume;

mod access;
mod content;
#[cfg(test)]
mod fixtures;
mod kept;
mod platform;
mod publish;
mod schedule;
mod tree;
mod watch;
mod yaml;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::config::Config;
use crate::status::board::Slice;
use crate::status::model;

use document::Document;
use publish::Publisher;
use schedule::Schedule;
use sources::Sources;

pub use kept::Keeper;
pub use sources::{Facts, Places, PublicAddress};
pub(crate) use watch::Watch;

/// The least time between two rounds that a rejected key asks for.
const AUTH_PAUSE: Duration = Duration::from_secs(2);

/// How often changing files may begin a round anew; then it goes on to the sources behind them.
const RESTARTS: u32 = 10;

/// News from outside that the metadata may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Somebody asks for it: SIGHUP, or a machine that woke up.
    Reload,
    /// The proxy rejected our key, or its certificate ends; perhaps there is a new one.
    AuthFault,
}

/// The document in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InForce {
    /// Null where there is none.
    pub document: Option<Arc<Document>>,
    /// How many restores from a snapshot were known when the round began that read it.
    pub epoch: u64,
    /// Counts the documents that were put in force or taken back.
    pub revision: u64,
}

/// `system_info.default_user.name` of one of cloud-init's configuration files.
pub(crate) fn default_user(text: &str) -> Option<String> {
    let tree = yaml::compose(text).ok()?;
    let name = tree.0.pointer("/system_info/default_user/name")?;
    Some(name.as_str()?.to_owned())
}

/// What the task hears and what it tells.
#[derive(Debug)]
pub struct Wires {
    /// News from outside.
    pub nudges: mpsc::Receiver<Nudge>,
    /// Counts restores from a snapshot.
    pub restores: channel::Receiver<u64>,
    /// The document in force.
    pub document: channel::Sender<InForce>,
    /// What else is known of this machine.
    pub facts: channel::Sender<Facts>,
}

/// Whether this is a machine of Google Compute Engine.
#[must_use]
pub fn is_google() -> bool {
    platform::guess(&Places::system()).has_google()
}

/// Reads the sources for as long as it is polled; dropping it is the way to end it.
pub async fn run(config: Config, slice: Slice<model::Metadata>, wires: Wires) {
    let keeper = Keeper::system(config.cache);
    run_in(Places::system(), keeper, config, slice, wires).await;
}

/// [`run`], with the local sources and what is kept in other places.
pub async fn run_in(
    places: Places,
    keeper: Keeper,
    config: Config,
    slice: Slice<model::Metadata>,
    mut wires: Wires,
) {
    let mut sources = Sources::new(&config, places);
    let mut watch = Watch::new(sources.watched());
    let mut publisher = Publisher::new(slice, wires.document.clone(), keeper);
    if let Some(identity) = publisher.remember(&sources.local_identity(), &sources.names()) {
        wires.facts.send_modify(|facts| facts.identity = identity);
    }
    let mut schedule = Schedule::default();
    let mut start = Instant::now();
    let mut end = End::Due;
    loop {
        let epoch = *wires.restores.borrow_and_update();
        let told_before = publisher.told();
        end = tokio::select! {
            (readings, ours) = look(&mut sources, &mut watch, &publisher, &wires.facts) => {
                if !ours {
                    publisher.forget();
                }
                let outcome = publisher.publish(epoch, &readings, sources.left_out());
                if end == End::Word {
                    schedule.word(publisher.told() != told_before);
                }
                let ended = Instant::now();
                let pause = schedule.after(outcome, ended - start, fastrand::f64());
                let round = Round {
                    next: ended + pause,
                    after_auth_fault: ended + AUTH_PAUSE,
                    listen_from: ended + schedule.before_word(),
                };
                round.wait(&mut sources, &mut watch, &mut wires, &mut publisher).await
            }
            Ok(()) = wires.restores.changed() => End::OtherMachine,
        };
        if end == End::OtherMachine {
            publisher.forget();
            sources.forget();
            schedule = Schedule::default();
            start = Instant::now();
        }
    }
}

/// One round, and whether what is remembered is this machine's: before a document is used that an
/// agent before this one kept, whoever can is asked what this machine is called.
async fn look(
    sources: &mut Sources,
    watch: &mut Watch,
    publisher: &Publisher,
    facts: &channel::Sender<Facts>,
) -> (Vec<(crate::config::SourceName, reading::Reading)>, bool) {
    let readings = walk(sources, watch, publisher).await;
    if !publisher.relies_on_kept(&readings) {
        return (readings, true);
    }
    let known = facts.borrow().clone();
    let found = sources.facts(known.clone()).await;
    let ours = !known.identity.differs(&found.identity);
    if !ours {
        info!("the document that was kept is another machine's");
        facts.send_replace(found);
    }
    (readings, ours)
}

/// The readings of one round. A file that changes meanwhile is not kept waiting by a service that is slow.
async fn walk(
    sources: &mut Sources,
    watch: &mut Watch,
    publisher: &Publisher,
) -> Vec<(crate::config::SourceName, reading::Reading)> {
    for _ in 0..RESTARTS {
        tokio::select! {
            readings = sources.walk() => return readings,
            () = changed(watch, publisher) => {}
        }
    }
    sources.walk().await
}

/// Waits until a file has changed. The status says so at once, before the file has come to rest.
async fn changed(watch: &mut Watch, publisher: &Publisher) {
    watch.stirred().await;
    publisher.stirred();
    watch.changed().await;
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is time for another round.
    Due,
    /// A source says that it has something else now.
    Word,
    /// What is known may be another machine's.
    OtherMachine,
}

struct Round {
    next: Instant,
    after_auth_fault: Instant,
    /// When to wait for a source's word: later, after some that led to nothing.
    listen_from: Instant,
}

impl Round {
    /// Waits until it is time for another round. The facts are gathered meanwhile: they are of
    /// no use before the document, and must not hold it up.
    async fn wait(
        mut self,
        sources: &mut Sources,
        watch: &mut Watch,
        wires: &mut Wires,
        publisher: &mut Publisher,
    ) -> End {
        let before = wires.facts.borrow().clone();
        // It holds nothing of the sources: these gather the facts meanwhile.
        let change = sources.change();
        let word = async {
            sleep_until(self.listen_from).await;
            change.await;
        };
        tokio::pin!(word);
        let gather = sources.facts(before);
        tokio::pin!(gather);
        let (mut gathering, mut listening) = (true, true);
        loop {
            tokio::select! {
                () = sleep_until(self.next) => return End::Due,
                () = changed(watch, publisher) => return End::Due,
                () = &mut word => return End::Word,
                Ok(()) = wires.restores.changed() => return End::OtherMachine,
                nudge = wires.nudges.recv(), if listening => match nudge {
                    Some(Nudge::Reload) => return End::Due,
                    Some(Nudge::AuthFault) => self.next = self.next.min(self.after_auth_fault),
                    None => listening = false,
                },
                found = &mut gather, if gathering => {
                    gathering = false;
                    let other = wires.facts.borrow().identity.differs(&found.identity);
                    if !other {
                        publisher.keep(&found.identity);
                    }
                    wires.facts.send_if_modified(|known| {
                        let changed = *known != found;
                        *known = found;
                        changed
                    });
                    if other {
                        info!("this machine has another name now: reading the metadata anew");
                        return End::OtherMachine;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
