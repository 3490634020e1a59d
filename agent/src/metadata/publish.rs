//! Puts a decision in force, and says what changed.

use std::sync::Arc;

use tokio::sync::watch as channel;
use tracing::{info, warn};

use super::InForce;
use super::decide::{Decision, Found, decide};
use super::document::Document;
use super::reading::{Reading, SourceFault};
use super::schedule::Outcome;
use super::sources::LeftOut;
use crate::config::SourceName;
use crate::explain::Explain;
use crate::status::board::Slice;
use crate::status::model::{self, Fault, MetadataState, Timestamp};

/// Makes decisions known, each thing once.
pub(super) struct Publisher {
    slice: Slice<model::Metadata>,
    out: channel::Sender<InForce>,
    epoch: u64,
    last_good: Option<Found>,
    last_fault: Option<SourceFault>,
    told: u64,
}

impl Publisher {
    pub(super) fn new(slice: Slice<model::Metadata>, out: channel::Sender<InForce>) -> Self {
        Self {
            slice,
            out,
            epoch: 0,
            last_good: None,
            last_fault: None,
            told: 0,
        }
    }

    /// Counts what has been put in force or taken back.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Puts in force what follows from a round that began in this epoch.
    pub(super) fn publish(
        &mut self,
        epoch: u64,
        readings: &[(SourceName, Reading)],
        left_out: &[LeftOut],
    ) -> Outcome {
        self.epoch = epoch;
        let left_out: Vec<_> = left_out.iter().map(show).collect();
        self.slice.update(|slice| slice.left_out = left_out);
        match decide(self.last_good.as_ref(), readings) {
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

    /// Takes back all that is known: it may be another machine's.
    pub(super) fn forget(&mut self) {
        self.withdraw();
        self.slice.update(|slice| {
            slice.state = MetadataState::Looking;
            slice.fault = None;
        });
    }

    fn tell(&mut self, document: Option<Arc<Document>>) {
        self.told += 1;
        let epoch = self.epoch;
        self.out.send_replace(InForce { document, epoch });
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
        self.tell(Some(found.document));
    }

    fn withdraw(&mut self) {
        if let Some(before) = self.last_good.take() {
            info!(
                source = before.source.as_str(),
                "the tunnel document is gone"
            );
            self.tell(None);
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
        // For how long a service wants to be left alone is no news.
        let same = before.map(ToString::to_string) == fault.map(ToString::to_string);
        if same || silent(before) && silent(fault) {
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

fn show(left_out: &LeftOut) -> model::LeftOut {
    model::LeftOut {
        source: left_out.name.as_str().to_owned(),
        reason: left_out.reason.clone(),
    }
}
