//! Tells others how this guest is to be reached: by which host keys, and on which port of the
//! proxy.
//!
//! ```text
//!  status ──> message ──> pace ──> send ──> guest attributes of Google Compute Engine
//!             (pure)      (pure)    │       [report] url
//!                           ^       └─> the reports slice
//!                           └── its clock
//! ```
//!
//! One task for each of those who are told, [`Reporter`]. It only ever reads the status, and nobody
//! waits for it. What has not changed is not told again; what can't be told is retried, ever more
//! slowly.

mod fault;
mod message;
mod pace;
mod send;

use std::future::pending;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{Config, GuestAttributes, ReportUrl};
use crate::explain::Explain;
use crate::metadata::{self, InForce};
use crate::moment::at;
use crate::status::board::{Board, Slice};
use crate::status::model::{self, Fault, ReportState, ReportTarget, Status, Timestamp};
use message::Message;
use pace::Pace;
use send::Sender;

/// Those who are told something, by this configuration.
#[must_use]
pub fn reporters(config: &Config, board: &Board) -> Vec<Reporter> {
    let attributes = match config.guest_attributes {
        GuestAttributes::Auto => metadata::is_google(),
        GuestAttributes::Always => true,
        GuestAttributes::Never => false,
    };
    let attributes = attributes.then_some((ReportTarget::GuestAttributes, &config.url));
    let url = match &config.report_url {
        ReportUrl::Fixed(url) => Some((ReportTarget::Url, url)),
        ReportUrl::Document | ReportUrl::Off => None,
    };
    attributes
        .into_iter()
        .chain(url)
        .map(|(target, to)| Reporter::new(target, Sender::new(target, to), board))
        .collect()
}

/// Reports to the `report.url` of the document in force, for as long as it is polled. Used with
/// [`ReportUrl::Document`].
pub async fn follow(mut documents: watch::Receiver<InForce>, board: Board) {
    let url = |in_force: &InForce| in_force.document.as_ref()?.report_url.clone();
    loop {
        let to = url(&documents.borrow_and_update());
        let reporter = to.as_ref().map(|to| {
            let sender = Sender::new(ReportTarget::Url, to);
            Reporter::new(ReportTarget::Url, sender, &board)
        });
        let reports = async {
            match reporter {
                Some(reporter) => reporter.run().await,
                None => pending().await,
            }
        };
        let changed = documents.wait_for(|in_force| url(in_force) != to);
        let ended = tokio::select! {
            () = reports => false,
            changed = changed => changed.is_err(),
        };
        let other = |report: &model::Report| report.to != ReportTarget::Url;
        board.reports().update(|reports| reports.retain(other));
        if ended {
            return;
        }
    }
}

/// Tells one of them.
#[derive(Debug)]
pub struct Reporter {
    target: ReportTarget,
    sender: Sender,
    status: watch::Receiver<Status>,
    slice: Slice<Vec<model::Report>>,
}

impl Reporter {
    fn new(target: ReportTarget, sender: Sender, board: &Board) -> Self {
        let reporter = Self {
            target,
            sender,
            status: board.subscribe(),
            slice: board.reports(),
        };
        reporter.slice.update(|reports| {
            reports.push(model::Report {
                to: target,
                url: reporter.sender.shown(),
                state: ReportState::Pending,
                delivered_at: None,
                next_attempt_at: None,
                fault: None,
            });
        });
        reporter
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut pace = Pace::default();
        self.status.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = self.status.changed() => {
                    let status = self.status.borrow_and_update();
                    if let Some(message) = Message::of(self.target, &status) {
                        pace.offer(Instant::now(), message);
                    }
                }
                () = at(pace.due()) => {}
            }
            if let Some(message) = pace.take(Instant::now()) {
                let answer = self.sender.send(&message).await;
                self.show_answer(answer.as_ref().err());
                let answer = answer.map_err(|fault| fault.is_final());
                pace.answered(Instant::now(), message, answer, fastrand::f64());
            }
            self.show_pace(&pace);
        }
    }

    fn update(&self, change: impl FnOnce(&mut model::Report)) {
        self.slice.update(|reports| {
            if let Some(report) = reports.iter_mut().find(|report| report.to == self.target) {
                change(report);
            }
        });
    }

    fn show_answer(&self, fault: Option<&fault::ReportFault>) {
        self.update(|report| {
            let before = report.fault.take();
            report.next_attempt_at = None;
            match fault {
                None => {
                    info!(
                        url = self.sender.shown(),
                        "told how this VM is to be reached"
                    );
                    report.delivered_at = Some(Timestamp::now());
                }
                Some(fault) => {
                    if before
                        .as_ref()
                        .is_none_or(|known| known.code != fault.code())
                    {
                        warn!(code = fault.code(), "{fault}. {}", fault.advice());
                    }
                    report.fault = Some(Fault::after(before.as_ref(), fault));
                }
            }
        });
    }

    fn show_pace(&self, pace: &Pace<Message>) {
        self.update(|report| {
            let waits = pace.due().filter(|_| report.fault.is_some());
            let from_now = waits.map(|due| due.saturating_duration_since(Instant::now()));
            // The wall clock may have been set since: a moment is shown as it was first.
            let shown = report.next_attempt_at;
            report.next_attempt_at =
                from_now.map(|wait| shown.unwrap_or(Timestamp(SystemTime::now() + wait)));
            report.state = match (&report.fault, pace.due()) {
                (Some(_), _) => ReportState::Failed,
                (None, Some(_)) => ReportState::Pending,
                (None, None) if report.delivered_at.is_none() => ReportState::Pending,
                (None, None) => ReportState::Delivered,
            };
        });
    }
}

#[cfg(test)]
mod tests;
