//! When sshd is checked, and what becomes of a check.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fault::{CheckError, Reason};
use super::leave::take_leave;
use super::search::{Met, Target};
use super::timing::{Absence, DOUBT, PATIENCE, SILENT, Timing};
use super::{Signals, State, read_banner};
use crate::origin::Origin;
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model::{self, SshdState};

/// Looks at sshd now and then, and publishes what it sees.
#[derive(Debug)]
pub struct Watcher {
    pub(super) target: Target,
    pub(super) dialer: Dialer,
    pub(super) slice: Slice<model::Sshd>,
    pub(super) state: watch::Sender<State>,
    pub(super) signals: Arc<Signals>,
    pub(super) timing: Timing,
    /// Whether the kernel lists the socket of sshd while it listens.
    pub(super) listable: bool,
}

/// The end of a wait.
#[derive(Debug, PartialEq, Eq)]
enum Woken {
    /// Its time is over.
    Due,
    /// A connection was not answered.
    Suspicion,
    /// A user's connection got past the banners.
    Proof,
}

impl Watcher {
    /// Watches until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
    }

    async fn watch(mut self) {
        let timing = self.timing;
        let mut doubted = false;
        let mut wrong = timing.wrong.0;
        let mut suspicion = timing.suspicion.0;
        let mut absence = Absence::new(timing);
        loop {
            let was_ready = self.state.borrow().is_ready();
            let checked = match self.locate().await {
                Ok(Some(met)) => {
                    self.listable = true;
                    self.ready(met);
                    Ok(())
                }
                Ok(None) => self.check().await,
                Err(error) => Err(error),
            };
            let woken = match checked {
                Ok(()) => Woken::Proof,
                Err(error) if self.is_elsewhere(&error) => continue,
                // Only a running sshd says why it turns a client away.
                Err(error) if was_ready && error.is_refusal() => Woken::Proof,
                Err(error) if was_ready && error.is_close() && !doubted => {
                    debug!(%error, "sshd closed a check; asking again");
                    doubted = true;
                    self.pause(timing.doubtful).await
                }
                Err(error) if error.is_absence() => {
                    self.failed(error);
                    match self.pause_or_suspicion(absence.pause()).await {
                        Woken::Suspicion => self.pause(timing.absent.0).await,
                        woken @ (Woken::Due | Woken::Proof) => woken,
                    }
                }
                Err(error) => {
                    self.failed(error);
                    let pause = wrong;
                    wrong = (wrong * 2).min(timing.wrong.1);
                    absence = Absence::new(timing);
                    self.pause(pause).await
                }
            };
            if woken != Woken::Proof {
                continue;
            }
            // A suspicion that came to nothing makes the next one wait longer.
            suspicion = if was_ready && !doubted {
                (suspicion * DOUBT).min(timing.suspicion.1)
            } else {
                timing.suspicion.0
            };
            doubted = false;
            wrong = timing.wrong.0;
            absence = Absence::new(timing);
            self.rest(suspicion).await;
        }
    }

    /// One check, which takes as long as sshd takes.
    async fn check(&mut self) -> Result<(), CheckError> {
        let began = Instant::now();
        let place = self.target.place.clone();
        let error = |reason| CheckError {
            address: place.address.clone(),
            reason,
            looked_at: None,
        };
        let listed = place.listener().is_some();
        let dialled = place.address.dial(&self.dialer, &Origin::Check).await;
        let mut stream = dialled.map_err(|refused| error(Reason::Down(refused)))?;
        // Something listens, so the kernel either lists it or can't. sshd may stop between the
        // connection and the second look.
        self.listable = listed || place.listener().is_some();
        let apart = self.dialer.is_own(&stream, &Origin::Check);
        let mut proven = false;
        let read = {
            let mut reading = pin!(read_banner(&mut stream, PATIENCE));
            let mut silent = SILENT;
            loop {
                tokio::select! {
                    read = &mut reading => break read,
                    () = self.signals.proof.notified() => {
                        // A user may have reached sshd at another place than this one.
                        proven |= !self.is_tentative() && self.take_proof();
                    }
                    () = sleep_until(began + silent), if !proven => {
                        if self.is_tentative() {
                            break Err(Reason::Silent(silent));
                        }
                        self.down(error(Reason::Silent(silent)));
                        silent *= 2;
                    }
                }
            }
        };
        match read {
            Ok(banner) => {
                take_leave(&stream, &banner);
                self.ready(Met {
                    banner,
                    latency: began.elapsed(),
                    apart,
                });
                Ok(())
            }
            Err(_) if proven => Ok(()),
            Err(reason) => Err(error(reason)),
        }
    }

    /// Waits for `time`, or until a user has got through.
    ///
    /// A proof of an sshd that has stopped since ends the wait as well: a check is due.
    async fn pause(&mut self, time: Duration) -> Woken {
        tokio::select! {
            () = sleep(time) => Woken::Due,
            () = self.signals.proof.notified() => {
                if self.take_proof() {
                    Woken::Proof
                } else {
                    Woken::Due
                }
            }
        }
    }

    async fn pause_or_suspicion(&mut self, time: Duration) -> Woken {
        let signals = Arc::clone(&self.signals);
        tokio::select! {
            woken = self.pause(time) => woken,
            () = signals.suspect.notified() => Woken::Suspicion,
        }
    }

    /// Returns when there is a reason for another check: for a suspicion `pause` after the last one
    /// at the earliest, and at once where the kernel will refuse it, which sshd does not notice.
    async fn rest(&mut self, pause: Duration) {
        let earliest = Instant::now() + pause;
        let mut blind = Instant::now() + self.timing.blind;
        let mut due = None;
        loop {
            let now = Instant::now();
            let gone = if self.listable {
                !self.is_listening()
            } else {
                now >= blind
            };
            if gone || due.is_some_and(|due| due <= now) {
                return;
            }
            let left = due.map(|due: Instant| due.saturating_duration_since(Instant::now()));
            let next = left.unwrap_or(Duration::MAX).min(self.timing.steady);
            match self.pause_or_suspicion(next).await {
                Woken::Suspicion => due = Some(earliest),
                Woken::Proof => {
                    due = None;
                    blind = Instant::now() + self.timing.blind;
                }
                Woken::Due if self.has_moved() => return,
                Woken::Due => {}
            }
        }
    }

    /// Whether the kernel lists a listening socket at sshd's address that may be sshd.
    fn is_listening(&self) -> bool {
        self.target.place.listener().is_some()
    }

    fn ready(&self, met: Met) {
        let Met {
            banner,
            latency,
            apart,
        } = met;
        self.show_place();
        self.slice.update(|sshd| {
            sshd.origins_apart = Some(apart);
            sshd.banner = Some(banner);
            // Tenths: it is for people, and an idle guest should not change all the time.
            sshd.latency_ms = Some((latency.as_secs_f64() * 10_000.0).round() / 10.0);
        });
        self.vouched();
    }

    /// Takes the report that a user's connection got past the banners; returns whether it counts.
    ///
    /// The report comes seconds after the event. Where the kernel lists the socket of sshd, and no
    /// longer does, sshd has stopped in between.
    fn take_proof(&mut self) -> bool {
        let listed = self.is_listening();
        if self.listable && !listed {
            debug!("sshd has stopped since a connection got past its banner");
            return false;
        }
        self.listable = listed;
        self.vouched();
        true
    }

    /// sshd answers: a check has read its banner, or a user has got past it.
    fn vouched(&self) {
        let banner = self.slice.get().banner.unwrap_or_default();
        let state = State::Ready {
            banner: banner.clone(),
            listable: self.listable,
        };
        self.state.send_if_modified(|before| {
            if !before.is_ready() {
                info!(address = %self.target.place.address, banner, "sshd answers");
            }
            let changed = *before != state;
            *before = state;
            changed
        });
        self.slice.update(|sshd| {
            sshd.state = SshdState::Ready;
            sshd.fault = None;
        });
    }

    fn failed(&mut self, error: CheckError) {
        if let Some(finder) = &mut self.target.finder {
            finder.failed();
        }
        self.down(error);
    }

    fn down(&self, mut error: CheckError) {
        self.show_place();
        error.looked_at = self.looked_at();
        let fault = model::Fault::after(self.slice.get().fault.as_ref(), &error);
        if fault.count == 1 {
            warn!(code = fault.code, "{}", fault.message);
        }
        self.slice.update(|sshd| {
            sshd.state = SshdState::Waiting;
            sshd.latency_ms = None;
            sshd.fault = Some(fault.clone());
        });
        self.state.send_replace(State::Down(fault));
    }
}
