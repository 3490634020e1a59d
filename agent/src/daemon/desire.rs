//! From what the metadata says, and what the network looks like, to the tunnel that is wanted.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use russh::keys::HashAlg;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::host;
use crate::metadata::document::{TunnelSpec, Validity, When};
use crate::metadata::{Facts, InForce, Nudge};
use crate::moment::at;
use crate::nat::hold::{Hold, Traffic};
use crate::nat::{self, Inputs};
use crate::status::board::Slice;
use crate::status::model::{self, Fault, Status, Timestamp, TunnelDecision, TunnelState};
use crate::tunnel::driver::Wanted;

/// Between two looks at the network.
const LOOK: Duration = Duration::from_secs(30);

pub(super) struct Desire {
    pub(super) documents: watch::Receiver<InForce>,
    pub(super) facts: watch::Receiver<Facts>,
    /// Counts changes of the network.
    pub(super) network: watch::Receiver<u64>,
    /// What the configuration says over the document.
    pub(super) when: Option<When>,
    pub(super) nat: Slice<model::Nat>,
    pub(super) instance_id: Slice<Option<String>>,
    pub(super) certificate: Slice<Option<model::Certificate>>,
    /// The fingerprint of the key in the document in force.
    pub(super) key: Slice<Option<String>>,
    /// Has the metadata read again, for a newer certificate.
    pub(super) reread: mpsc::Sender<Nudge>,
    /// Where it stands whether a live tunnel is in use, before it is taken down.
    pub(super) status: watch::Receiver<Status>,
    pub(super) wanted: watch::Sender<Wanted>,
}

impl Desire {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut hold = Hold::default();
        loop {
            let in_force = self.documents.borrow_and_update().clone();
            let facts = self.facts.borrow_and_update().clone();
            self.show_key(&in_force);
            let changes_in = self.watch_certificate(&in_force, SystemTime::now());
            let (spec, until) = self.decide(&in_force, facts, &mut hold).await;
            self.want(spec, in_force.epoch);
            tokio::select! {
                Ok(()) = self.documents.changed() => {}
                Ok(()) = self.facts.changed() => {}
                Ok(()) = self.network.changed() => {}
                () = at(until) => {}
                () = sleep(LOOK.min(changes_in)) => {}
            }
        }
    }

    fn show_key(&self, in_force: &InForce) {
        let document = in_force.document.as_ref();
        let tunnel = document.and_then(|document| document.tunnel.as_ref());
        let key = tunnel.map(|tunnel| tunnel.login.key.fingerprint(HashAlg::Sha256).to_string());
        self.key.update(|shown| *shown = key);
    }

    /// Publishes the certificate of the document in force. Nudges the metadata when its warning
    /// changes: it is about to expire, or has expired. Returns the time until the next change.
    fn watch_certificate(&self, in_force: &InForce, now: SystemTime) -> Duration {
        let tunnel = in_force.document.as_ref();
        let login = tunnel.and_then(|document| Some(&document.tunnel.as_ref()?.login));
        let certificate = login.and_then(|login| login.certificate.as_ref());
        let lapse = login.and_then(|login| login.lapse(now));
        let next = certificate.and_then(|certificate| Validity::of(certificate).next(now));
        let changes_in = next.and_then(|next| next.duration_since(now).ok());
        let changes_in = changes_in.unwrap_or(Duration::MAX);
        let before = self.certificate.get();
        let shown = certificate.map(|certificate| {
            let Validity { from, until } = Validity::of(certificate);
            let same = |fault: &&Fault| {
                let lapse = lapse.as_ref();
                lapse.is_some_and(|lapse| lapse.to_string() == fault.message)
            };
            let known = before.as_ref().and_then(|shown| shown.warning.as_ref());
            let known = known.filter(same).cloned();
            let new = || lapse.as_ref().map(|lapse| Fault::after(None, lapse));
            model::Certificate {
                key_id: certificate.key_id().to_owned(),
                valid_after: from.map(Timestamp),
                valid_before: until.map(Timestamp),
                warning: known.or_else(new),
            }
        });
        if shown == before {
            return changes_in;
        }
        if let Some(warning) = shown.as_ref().and_then(|shown| shown.warning.as_ref()) {
            warn!(
                code = warning.code,
                "{}. {}", warning.message, warning.advice
            );
        }
        let same = |shown: &model::Certificate, before: &model::Certificate| {
            shown.key_id == before.key_id && shown.valid_before == before.valid_before
        };
        if let (Some(shown), Some(before)) = (&shown, &before)
            && same(shown, before)
        {
            // Where the queue is full, a nudge in it asks for the same.
            let _ = self.reread.try_send(Nudge::AuthFault);
        }
        self.certificate.update(|slice| *slice = shown);
        changes_in
    }

    /// Hands the tunnel to the driver, if it is another one than before.
    fn want(&self, spec: Option<Arc<TunnelSpec>>, epoch: u64) {
        let held = spec.is_some();
        let changed = self.wanted.send_if_modified(|wanted| {
            let changed = wanted.spec != spec || wanted.epoch != epoch;
            if changed {
                let revision = wanted.revision + 1;
                *wanted = Wanted {
                    spec,
                    epoch,
                    revision,
                };
            }
            changed
        });
        if changed {
            let revision = self.wanted.borrow().revision;
            self.nat.update(|slice| slice.wanted = revision);
            info!(wanted = held, "what is wanted of the tunnel has changed");
        }
    }

    /// What is wanted, and until when if it is wanted only because it is there.
    async fn decide(
        &self,
        in_force: &InForce,
        facts: Facts,
        hold: &mut Hold,
    ) -> (Option<Arc<TunnelSpec>>, Option<Instant>) {
        let inputs = Inputs::read(&facts).await;
        let instance_id = facts.instance_id.or_else(host::instance_id);
        self.instance_id.update(|id| *id = instance_id);
        let (verdict, rule) = nat::verdict(&inputs);
        let document = in_force.document.as_ref();
        let spec = document.and_then(|document| document.tunnel.clone());
        let decision = nat::decide(spec.as_ref().map(|spec| spec.when), self.when, verdict);
        let now = Instant::now();
        let until = match decision {
            TunnelDecision::Always | TunnelDecision::Needed => {
                hold.wanted(self.traffic());
                None
            }
            TunnelDecision::Never | TunnelDecision::NotAsked => {
                hold.drop_it();
                None
            }
            TunnelDecision::NotNeeded => hold.kept_until(now, self.traffic()),
        };
        self.nat.update(|slice| {
            let (before, wanted) = (slice.held_until, slice.wanted);
            *slice = nat::show(&inputs, verdict, &rule, decision);
            slice.held_until = until.map(|until| wall(before, until - now));
            slice.revision = in_force.revision;
            slice.wanted = wanted;
        });
        let wanted = match decision {
            TunnelDecision::Always | TunnelDecision::Needed => true,
            TunnelDecision::Never | TunnelDecision::NotAsked => false,
            TunnelDecision::NotNeeded => until.is_some(),
        };
        (spec.filter(|_| wanted), until)
    }

    fn traffic(&self) -> Traffic {
        let tunnel = &self.status.borrow().tunnel;
        match tunnel.state {
            TunnelState::Up | TunnelState::Proving if tunnel.open > 0 => Traffic::Open,
            TunnelState::Up | TunnelState::Proving => Traffic::Idle,
            TunnelState::Off
            | TunnelState::Opening
            | TunnelState::PortHeld
            | TunnelState::Waiting
            | TunnelState::Closing => Traffic::Down,
        }
    }
}

/// So far from now by the wall clock; what was shown before, if that is the same to the second.
fn wall(before: Option<Timestamp>, from_now: Duration) -> Timestamp {
    let then = SystemTime::now() + from_now;
    let apart = |shown: &Timestamp| {
        let (early, late) = (shown.0.min(then), shown.0.max(then));
        late.duration_since(early).unwrap_or_default()
    };
    before
        .filter(|shown| apart(shown) < Duration::from_secs(1))
        .unwrap_or(Timestamp(then))
}
