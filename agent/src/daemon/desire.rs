//! From what the metadata says, and what the network looks like, to the tunnel that is wanted.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

use crate::host;
use crate::metadata::document::{Document, TunnelSpec, When};
use crate::metadata::{Facts, InForce};
use crate::moment::at;
use crate::nat::hold::{Hold, Traffic};
use crate::nat::{self, Inputs};
use crate::status::board::Slice;
use crate::status::model::{self, Status, Timestamp, TunnelDecision, TunnelState};
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
    /// Where it stands whether a live tunnel is in use, before it is taken down.
    pub(super) status: watch::Receiver<Status>,
    pub(super) wanted: watch::Sender<Wanted>,
}

impl Desire {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut hold = Hold::default();
        loop {
            let InForce { document, epoch } = self.documents.borrow_and_update().clone();
            let facts = self.facts.borrow_and_update().clone();
            let (spec, until) = self.decide(document.as_deref(), facts, &mut hold);
            let wanted = Wanted { spec, epoch };
            let changed = self.wanted.send_if_modified(|before| {
                let changed = *before != wanted;
                before.clone_from(&wanted);
                changed
            });
            if changed {
                info!(
                    wanted = self.wanted.borrow().spec.is_some(),
                    "what is wanted of the tunnel has changed"
                );
            }
            tokio::select! {
                Ok(()) = self.documents.changed() => {}
                Ok(()) = self.facts.changed() => {}
                Ok(()) = self.network.changed() => {}
                () = at(until) => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// What is wanted, and until when if it is wanted only because it is there.
    fn decide(
        &self,
        document: Option<&Document>,
        facts: Facts,
        hold: &mut Hold,
    ) -> (Option<Arc<TunnelSpec>>, Option<Instant>) {
        let inputs = Inputs::read(&facts);
        let instance_id = facts.instance_id.or_else(host::instance_id);
        self.instance_id.update(|id| *id = instance_id);
        let (verdict, rule) = nat::verdict(&inputs);
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
            let before = slice.held_until;
            *slice = nat::show(&inputs, verdict, &rule, decision);
            slice.held_until = until.map(|until| wall(before, until - now));
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
