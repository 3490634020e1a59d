//! The sessions that there are: the one that carries the tunnel, the one that is being scouted,
//! and those that end with their last connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fault::Fault;
use super::ghost::Ghosts;
use super::live::{Live, open};
use super::machine::Input;
use super::plan::{Ask, Plan, Told};
use super::scout::{self, Candidate};
use super::tcp::SMALL_SEGMENTS;
use crate::news::News;
use crate::status::model;

/// How many sessions may end with their last connection; the oldest makes room for one more.
const RETIRED: usize = 4;

/// The sessions that there are.
#[derive(Default)]
pub(super) struct Sessions {
    /// The one that the machine knows.
    live: Option<Live>,
    scouting: Option<JoinHandle<Result<Candidate, Fault>>>,
    /// The one to switch to.
    candidate: Option<Candidate>,
    /// Those that end with their last connection.
    retired: Vec<Live>,
    /// What is left of those that fell silent.
    ghosts: Ghosts,
    /// The proxies on which the port was ours, since something else was wanted last.
    ours: BTreeSet<usize>,
    /// How far down [`SMALL_SEGMENTS`] the sessions with a proxy are, where full packets may be
    /// lost on the way to it.
    segments: BTreeMap<usize, usize>,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.stop_scouting();
    }
}

/// What is heard of the sessions.
pub(super) enum Heard {
    /// The one that carries the tunnel says something.
    Told(Told),
    /// It has ended.
    Ended(Fault),
    /// Scouting has ended.
    Scouted(Result<Candidate, Fault>),
}

impl Sessions {
    /// What happens next; for ever if there is no session.
    pub(super) async fn hear(&mut self) -> Heard {
        let Self { live, scouting, .. } = self;
        tokio::select! {
            biased;
            heard = hear(live) => heard,
            result = scouted(scouting) => Heard::Scouted(result),
        }
    }

    /// The port is ours on this proxy.
    pub(super) fn own(&mut self, proxy: usize) {
        self.ours.insert(proxy);
    }

    /// Something else is wanted.
    pub(super) fn disown(&mut self) {
        self.ours.clear();
        self.segments.clear();
    }

    /// The way to the proxies is another one: it may carry full packets.
    pub(super) fn forget_segments(&mut self) {
        self.segments.clear();
    }

    /// A session with this proxy ended like this. Where full packets may be what the path loses,
    /// the next one tries smaller ones; after the smallest, full ones again.
    pub(super) fn suspect(&mut self, proxy: usize, fault: &Fault) {
        if fault.may_be_full_packets() {
            let step = self.segments.get(&proxy).map_or(0, |step| step + 1);
            if step < SMALL_SEGMENTS.len() {
                self.segments.insert(proxy, step);
            } else {
                self.segments.remove(&proxy);
            }
        }
    }

    /// The largest segment for a session with this proxy, in bytes; none, where it need not be
    /// small.
    pub(super) fn segment(&self, proxy: usize) -> Option<u32> {
        SMALL_SEGMENTS.get(*self.segments.get(&proxy)?).copied()
    }

    /// Whether the port was ours on this proxy.
    pub(super) fn owned(&self, proxy: usize) -> bool {
        self.ours.contains(&proxy)
    }

    /// What is left of those that fell silent.
    pub(super) fn ghosts(&self) -> Ghosts {
        self.ghosts.clone()
    }

    /// Opens a session to carry the tunnel.
    pub(super) fn open(&mut self, plan: Option<Plan>) {
        self.live = plan.map(open);
    }

    /// Brings one up beside it.
    pub(super) fn scout(&mut self, plan: Option<Plan>) {
        self.stop_scouting();
        self.scouting = plan.map(|plan| tokio::spawn(scout::run(plan)));
    }

    /// Asks the one that carries the tunnel.
    pub(super) fn ask(&self, ask: Ask) {
        if let Some(live) = &self.live {
            live.ask(ask);
        }
    }

    /// Ends the one that carries the tunnel in an orderly way.
    pub(super) fn close(&self) {
        self.live.iter().for_each(Live::stop);
    }

    /// Has the live session see whether it still stands, after news that may have cost it.
    pub(super) fn check(&self, news: News) {
        if news != News::Network
            && let Some(live) = &self.live
        {
            live.dial_again();
        }
        self.ask(Ask::CheckAddress);
        if news == News::Woken {
            self.ask(Ask::CheckPeer);
        }
    }

    /// Ends the attempt that is under way, and what came of it.
    pub(super) fn stop_scouting(&mut self) {
        self.candidate = None;
        if let Some(scouting) = self.scouting.take() {
            scouting.abort();
        }
    }

    /// Keeps what came of scouting, and tells it to the machine.
    pub(super) fn scouted(&mut self, result: Result<Candidate, Fault>) -> Input {
        self.scouting = None;
        Input::Scouted(result.map(|candidate| {
            let known = (candidate.port, candidate.proof.clone());
            self.candidate = Some(candidate);
            known
        }))
    }

    /// Whether users have connections open on the candidate.
    pub(super) fn candidate_in_use(&self) -> bool {
        self.candidate
            .as_ref()
            .is_some_and(|candidate| candidate.in_use)
    }

    /// The candidate carries the tunnel from now on; returns its forwards.
    pub(super) fn switch(&mut self) -> Option<Vec<model::Forward>> {
        let candidate = self.candidate.take()?;
        if let Some(mut old) = self.live.replace(candidate.live) {
            old.retire();
            self.retired.retain(|retired| !retired.has_ended());
            if self.retired.len() == RETIRED {
                self.retired.remove(0);
            }
            self.retired.push(old);
        }
        Some(candidate.forwards)
    }

    /// Ends all of them in an orderly way, within `time`.
    pub(super) async fn stop(&mut self, time: Duration) {
        self.stop_scouting();
        let all: Vec<_> = self
            .live
            .take()
            .into_iter()
            .chain(self.retired.drain(..))
            .collect();
        all.iter().for_each(Live::stop);
        let _ = timeout(time, async {
            for mut live in all {
                live.end().await;
            }
        })
        .await;
    }
}

/// What the session says next; what it has said before it ended comes before its end.
async fn hear(live: &mut Option<Live>) -> Heard {
    let Some(live) = live else {
        return std::future::pending().await;
    };
    match live.told.recv().await {
        Some(told) => Heard::Told(told),
        None => Heard::Ended(live.end().await),
    }
}

async fn scouted(
    scouting: &mut Option<JoinHandle<Result<Candidate, Fault>>>,
) -> Result<Candidate, Fault> {
    match scouting {
        Some(task) => task.await.unwrap_or(Err(Fault::Stopped)),
        None => std::future::pending().await,
    }
}
