//! From what the metadata says, and what the network looks like, to the tunnel that is wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::host;
use crate::metadata::document::{Document, TunnelSpec, When};
use crate::metadata::{Facts, InForce};
use crate::nat;
use crate::status::board::Slice;
use crate::status::model;
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
    pub(super) wanted: watch::Sender<Wanted>,
}

impl Desire {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut doubts = 0;
        loop {
            let InForce { document, epoch } = self.documents.borrow_and_update().clone();
            let facts = self.facts.borrow_and_update().clone();
            let spec = self.decide(document.as_deref(), facts, &mut doubts);
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
                Ok(()) = self.documents.changed() => doubts = 0,
                Ok(()) = self.facts.changed() => {}
                Ok(()) = self.network.changed() => {}
                () = sleep_until(Instant::now() + LOOK) => {}
            }
        }
    }

    fn decide(
        &self,
        document: Option<&Document>,
        facts: Facts,
        doubts: &mut u32,
    ) -> Option<Arc<TunnelSpec>> {
        let instance_id = facts.instance_id.or_else(host::instance_id);
        self.instance_id.update(|id| *id = instance_id);
        let inputs = nat::read_inputs(facts.public);
        let (verdict, rule) = nat::verdict(&inputs);
        self.nat
            .update(|slice| *slice = nat::show(&inputs, verdict, &rule));
        let spec = document.and_then(|document| document.tunnel.clone())?;
        if nat::wanted(spec.when, self.when, verdict) {
            *doubts = 0;
            return Some(spec);
        }
        // A live tunnel is not given up for a network that is just being set up anew.
        let explicit = self.when.unwrap_or(spec.when) != When::Auto;
        *doubts += 1;
        let live = self.wanted.borrow().spec.as_ref() == Some(&spec);
        (live && !explicit && *doubts < 2).then_some(spec)
    }
}
