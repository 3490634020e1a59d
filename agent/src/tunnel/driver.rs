//! Waits for one event, feeds the machine, shows its state, and does as it orders.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::fault::Fault;
use super::machine::{Input, Machine, Order, Probe, State};
use super::plan::{Ask, Plan, Told};
use super::sessions::{Heard, Sessions};
use super::show;
use super::timing::Timing;
use crate::metadata::{self, document::TunnelSpec};
use crate::moment::at;
use crate::news::{News, way::Targets};
use crate::pulse::Pulse;
use crate::relay::dial::Dialer;
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model::{self, Timestamp};

/// The tunnel that is wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Null when none is.
    pub spec: Option<Arc<TunnelSpec>>,
    /// How many restores from a snapshot were known when its document was read.
    pub epoch: u64,
    /// Counts the changes; what the status says of the tunnel names the change that it follows.
    pub revision: u64,
}

/// Holds the tunnel that is wanted.
pub struct Driver {
    /// The tunnel that is wanted now.
    pub wanted: watch::Receiver<Wanted>,
    /// News from outside that make an attempt worthwhile.
    pub news: mpsc::Receiver<News>,
    /// Takes the addresses that the proxies' names resolve to; [`crate::news`] watches the way there.
    pub targets: Targets,
    /// Counts restores from a snapshot: what was read before may be another machine's.
    pub restores: watch::Receiver<u64>,
    /// Told when a proxy rejects our login: the metadata may have a newer key.
    pub rejected: mpsc::Sender<metadata::Nudge>,
    /// The watch over sshd.
    pub watch: Sshd,
    /// Reaches sshd.
    pub dialer: Dialer,
    /// The tunnel's slice of the status.
    pub slice: Slice<model::Tunnel>,
    /// The durations.
    pub timing: Timing,
    /// Shows the watchdog that this loop turns.
    pub pulse: Pulse,
}

/// What the driver waits for.
enum Event {
    Heard(Heard),
    Due,
    Wanted,
    News(News),
    Restored,
}

impl Driver {
    /// Runs until `stop`; then the port is given back before this returns.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut machine = Machine::new(self.timing.clone(), fastrand::Rng::new());
        let mut sessions = Sessions::default();
        let mut spec = None;
        let mut taken = None;
        self.wanted.mark_changed();
        while let Some(event) = self.next(&machine, &mut sessions, &stop).await {
            let input = match event {
                Event::Due => Input::Tick,
                Event::Heard(Heard::Told(told)) => match self.take(told) {
                    Some(input) => input,
                    None => continue,
                },
                Event::Heard(Heard::Ended(fault)) => Input::Ended(fault),
                Event::Heard(Heard::Scouted(result)) => sessions.scouted(result),
                Event::Wanted => {
                    spec = self.effective();
                    taken = Some(self.wanted.borrow().revision);
                    sessions.disown();
                    self.targets.clear();
                    Input::Wanted(spec.as_ref().map_or(0, |spec| spec.proxies.len()))
                }
                Event::News(news) => {
                    sessions.check(news);
                    match news {
                        // Containers that come and go are no reason for another login.
                        News::Network => continue,
                        News::Woken => Input::Woken,
                        News::Way => {
                            sessions.forget_segments();
                            Input::Nudge
                        }
                        News::Asked => Input::Nudge,
                    }
                }
                Event::Restored => {
                    spec = self.effective();
                    if spec.is_some() || matches!(machine.state(), State::Idle) {
                        continue;
                    }
                    info!("restored from a snapshot: the session is cut, as it may be another's");
                    // Without a byte: the other machine has the same keys and the same counters.
                    sessions = Sessions::default();
                    machine.step(Instant::now(), Input::Wanted(0));
                    Input::Ended(Fault::Stopped)
                }
            };
            self.step(&mut machine, &mut sessions, spec.as_ref(), input);
            if let Some(revision) = taken.take() {
                self.slice.update(|slice| slice.wanted = revision);
            }
        }
        sessions.stop(3 * self.timing.close).await;
    }

    fn step(
        &self,
        machine: &mut Machine,
        sessions: &mut Sessions,
        spec: Option<&Arc<TunnelSpec>>,
        input: Input,
    ) {
        if let Input::Ended(ended) = &input {
            if let Some((proxy, fault)) = machine.state().blamed(ended) {
                sessions.suspect(proxy, fault);
            }
            sessions.open(None);
        }
        if matches!(input, Input::Ended(_) | Input::Wanted(_)) {
            sessions.stop_scouting();
        }
        if let Input::Ended(fault) | Input::Scouted(Err(fault)) = &input
            && fault.asks_for_metadata()
        {
            // One that waits already says the same.
            let _ = self.rejected.try_send(metadata::Nudge::AuthFault);
        }
        if let Input::Scouted(Err(fault)) = &input {
            sessions.suspect(0, fault);
        }
        let scouted = matches!(input, Input::Scouted(Ok(_)));
        let before = machine.state().clone();
        let met = show::met(&before, &input);
        let order = machine.step(Instant::now(), input);
        if scouted && order == Some(Order::Switch) {
            machine.step(Instant::now(), Input::InUse(sessions.candidate_in_use()));
        } else if scouted {
            // It would hold the port that the next attempt asks for.
            sessions.stop_scouting();
        }
        show::publish(&self.slice, &before, met, machine, spec.map(AsRef::as_ref));
        if let State::Up { proxy, .. } = machine.state() {
            sessions.own(*proxy);
        }
        if let Some(order) = order {
            self.obey(order, sessions, spec);
        }
    }

    /// What is wanted, unless it was read before this machine was restored.
    fn effective(&mut self) -> Option<Arc<TunnelSpec>> {
        let restores = *self.restores.borrow_and_update();
        let wanted = self.wanted.borrow_and_update();
        (wanted.epoch >= restores)
            .then(|| wanted.spec.clone())
            .flatten()
    }

    /// The next event; none when it is time to stop.
    async fn next(
        &mut self,
        machine: &Machine,
        sessions: &mut Sessions,
        stop: &CancellationToken,
    ) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.pulse.answer() => {}
                Ok(()) = self.restores.changed() => return Some(Event::Restored),
                Ok(()) = self.wanted.changed() => return Some(Event::Wanted),
                heard = sessions.hear() => return Some(Event::Heard(heard)),
                Some(news) = self.news.recv() => return Some(Event::News(news)),
                () = at(machine.deadline()) => return Some(Event::Due),
            }
        }
    }

    /// Shows what a session tells, or makes it an input.
    fn take(&self, told: Told) -> Option<Input> {
        match told {
            Told::Granted(port) => Some(Input::Granted(port)),
            Told::Refused { fault, shared } => Some(Input::Refused { fault, shared }),
            Told::Probed(probe) => {
                if matches!(probe, Probe::Answered | Probe::Carried) {
                    self.slice
                        .update(|slice| slice.last_probe_at = Some(Timestamp::now()));
                }
                Some(Input::Probed(probe))
            }
            Told::InUse(in_use) => Some(Input::InUse(in_use)),
            Told::Forwards(forwards) => {
                self.slice
                    .update(|slice| model::Forward::replace(&mut slice.forwards, forwards));
                None
            }
            Told::RoundTrip(time) => {
                self.slice.update(|slice| slice.round_trip_ms = time);
                None
            }
        }
    }

    fn obey(&self, order: Order, sessions: &mut Sessions, spec: Option<&Arc<TunnelSpec>>) {
        match order {
            Order::Open(index) => sessions.open(self.plan(spec, index, sessions)),
            Order::Scout(index) => sessions.scout(self.plan(spec, index, sessions)),
            Order::Switch => {
                if let Some(forwards) = sessions.switch() {
                    self.slice
                        .update(|slice| model::Forward::replace(&mut slice.forwards, forwards));
                }
            }
            Order::Request => sessions.ask(Ask::Request),
            Order::Probe => sessions.ask(Ask::Probe),
            Order::Close => sessions.close(),
        }
    }

    fn plan(
        &self,
        spec: Option<&Arc<TunnelSpec>>,
        index: usize,
        sessions: &Sessions,
    ) -> Option<Plan> {
        Some(Plan {
            spec: Arc::clone(spec?),
            proxy: spec?.proxies.get(index)?.clone(),
            watch: self.watch.clone(),
            dialer: self.dialer.clone(),
            timing: self.timing.clone(),
            again: Arc::default(),
            targets: self.targets.clone(),
            ours: sessions.owned(index),
            segment: sessions.segment(index),
            ghosts: sessions.ghosts(),
            slice: self.slice.clone(),
            reread: self.rejected.clone(),
        })
    }
}
