//! Puts a decision in force, and says what changed.

use std::sync::Arc;

use tokio::sync::watch as channel;
use tracing::{info, warn};

use super::InForce;
use super::decide::{Decision, Found, decide};
use super::document::Document;
use super::kept::Keeper;
use super::reading::{Reading, SourceFault};
use super::schedule::Outcome;
use super::sources::{Identity, LeftOut};
use crate::config::SourceName;
use crate::explain::Explain;
use crate::status::board::Slice;
use crate::status::model::{self, Fault, MetadataState, Timestamp};

/// Makes decisions known, each thing once.
pub(super) struct Publisher {
    slice: Slice<model::Metadata>,
    out: channel::Sender<InForce>,
    keeper: Keeper,
    epoch: u64,
    last_good: Option<Found>,
    /// When the last good document was fetched, if an agent before this one did that.
    kept: Option<Timestamp>,
    /// The last good document has been told. A kept one has not, until its source fails.
    in_force: bool,
    last_fault: Option<SourceFault>,
    told: u64,
}

impl Publisher {
    pub(super) fn new(
        slice: Slice<model::Metadata>,
        out: channel::Sender<InForce>,
        keeper: Keeper,
    ) -> Self {
        Self {
            slice,
            out,
            keeper,
            epoch: 0,
            last_good: None,
            kept: None,
            in_force: false,
            last_fault: None,
            told: 0,
        }
    }

    /// Counts what has been put in force or taken back.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Remembers what an agent before this one kept, and gives the names of its machine, if that
    /// may be this one and still asks that source. It counts as the last good document, but is used
    /// only once its source fails.
    pub(super) fn remember(
        &mut self,
        identity: &Identity,
        sources: &[SourceName],
    ) -> Option<Identity> {
        let kept = self.keeper.load(identity)?;
        if !sources.contains(&kept.found.source) {
            self.keeper.discard();
            return None;
        }
        self.last_good = Some(kept.found);
        self.kept = Some(kept.fetched_at);
        Some(kept.identity)
    }

    /// Whether a round puts in force what was kept. Who this machine is has to be asked first.
    pub(super) fn relies_on_kept(&self, readings: &[(SourceName, Reading)]) -> bool {
        let keeps = matches!(decide(self.last_good.as_ref(), readings), Decision::Keep(_));
        keeps && !self.in_force
    }

    /// Keeps what is in force for the next agent on the machine with these names.
    pub(super) fn keep(&mut self, identity: &Identity) {
        if let Some(found) = self.last_good.as_ref().filter(|_| self.kept.is_none()) {
            self.keeper.keep(found, identity);
        }
        let unkept = self.keeper.unkept();
        self.slice.update(|slice| {
            let same = |shown: &Fault| unkept.is_some_and(|now| now.to_string() == shown.message);
            if !slice.unkept.as_ref().is_some_and(same) {
                slice.unkept = unkept.map(|unkept| Fault::after(None, unkept));
            }
        });
    }

    /// A file has changed that the next round reads. Where no document is in force, it may be the
    /// first one: "nothing is wanted" is out of date then.
    pub(super) fn stirred(&self) {
        let first = !self.in_force;
        self.slice.update(|slice| slice.stirred = first);
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
        self.slice.update(|slice| {
            slice.left_out = left_out;
            slice.stirred = false;
        });
        match decide(self.last_good.as_ref(), readings) {
            Decision::Take(found, fault) => {
                self.note(fault.as_ref());
                let outcome = match fault {
                    Some(_) => Outcome::FoundBehindFailure,
                    None => Outcome::Found,
                };
                self.slice.update(|slice| {
                    slice.state = MetadataState::Found;
                    slice.source = Some(found.source.as_str().to_owned());
                    slice.fetched_at = Some(Timestamp::now());
                    slice.kept = false;
                    slice.warnings.clone_from(&found.document.warnings);
                    slice.fault = fault.map(|fault| Fault::after(slice.fault.as_ref(), &fault));
                });
                self.take(found);
                outcome
            }
            Decision::Keep(fault) => {
                self.use_kept();
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
        let (epoch, revision) = (self.epoch, self.told);
        self.slice.update(|slice| slice.revision = revision);
        self.out.send_replace(InForce {
            document,
            epoch,
            revision,
        });
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
        let told = std::mem::replace(&mut self.in_force, true);
        self.kept = None;
        if told && before.is_some_and(|before| before.document == found.document) {
            return;
        }
        self.announce(&found);
    }

    /// Puts in force what an agent before this one kept, unless that is done.
    fn use_kept(&mut self) {
        let (Some(found), Some(fetched_at), false) =
            (self.last_good.clone(), self.kept, self.in_force)
        else {
            return;
        };
        info!("the metadata can't be read: the document that was kept is used");
        self.in_force = true;
        self.slice.update(|slice| {
            slice.source = Some(found.source.as_str().to_owned());
            slice.fetched_at = Some(fetched_at);
            slice.kept = true;
        });
        self.announce(&found);
    }

    fn announce(&mut self, found: &Found) {
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
        self.tell(Some(Arc::clone(&found.document)));
    }

    fn withdraw(&mut self) {
        self.keeper.discard();
        self.kept = None;
        let told = std::mem::take(&mut self.in_force);
        if let Some(before) = self.last_good.take().filter(|_| told) {
            info!(
                source = before.source.as_str(),
                "the tunnel document is gone"
            );
            self.tell(None);
        }
        self.slice.update(|slice| {
            slice.source = None;
            slice.fetched_at = None;
            slice.kept = false;
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
