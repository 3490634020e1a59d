//! What the bridge says of itself.

use tracing::warn;

use super::fault::Fault;
use super::foreign::Proof;
use super::{Bridge, Stand};
use crate::explain::Explain;
use crate::host::{self, LocalCid};
use crate::sshd::State;
use crate::status::model::{self, BridgeState, Timestamp};

impl Bridge {
    /// Says why the bridge waits; in the journal too, the first time.
    pub(super) fn wait_for(&self, fault: &Fault) {
        let mut first = false;
        self.change(|bridge| {
            let fault = model::Fault::after(bridge.fault.as_ref(), fault);
            first = fault.count == 1;
            (BridgeState::Waiting, Some(fault))
        });
        if first {
            warn!(code = fault.code(), "{fault}");
        }
    }

    /// Says where the bridge stands.
    pub(super) fn publish(&self) {
        match &self.stand {
            Stand::Without => {}
            Stand::Holding {
                cid: LocalCid::NoDevice,
                ..
            } => self.wait_for(&Fault::NoDevice),
            Stand::Holding { .. } => self.change(|_| match self.sshd.state() {
                State::Ready { .. } => (BridgeState::Ready, self.remark.clone()),
                State::Unknown => (BridgeState::Waiting, None),
                State::Down(fault) => (BridgeState::Waiting, Some(fault)),
            }),
            Stand::Foreign { proof } => match (proof, proof.fault(&self.listen)) {
                (_, None) => self.change(|_| (BridgeState::Waiting, None)),
                (Proof::Failed(_), Some(fault)) => self.wait_for(&fault),
                // Nothing speaks against it, so it is healthy; how to switch is worth knowing.
                (_, Some(fault)) => self.change(|bridge| {
                    let known = bridge.fault.clone();
                    let known = known.filter(|known| known.code == fault.code());
                    let fault = known.unwrap_or_else(|| model::Fault::after(None, &fault));
                    (BridgeState::Foreign, Some(fault))
                }),
            },
        }
    }

    fn change(&self, decide: impl FnOnce(&model::Bridge) -> (BridgeState, Option<model::Fault>)) {
        self.slice.update(|bridge| {
            let (state, fault) = decide(bridge);
            if bridge.state != state {
                bridge.state = state;
                bridge.since = Timestamp::now();
            }
            bridge.fault = fault;
            bridge.listen = Some(match &self.stand {
                Stand::Holding { listener, .. } => listener.name().to_string(),
                Stand::Foreign { .. } | Stand::Without => self.listen.to_string(),
            });
            bridge.cid = match (&self.stand, bridge.listen.as_deref()) {
                (Stand::Holding { cid, .. }, _) => known(*cid),
                // Another's listener has the same context ID as ours would have.
                (Stand::Foreign { .. }, Some(name)) if name.starts_with("vsock:") => {
                    known(host::local_cid())
                }
                (Stand::Foreign { .. } | Stand::Without, _) => None,
            };
        });
    }
}

fn known(cid: LocalCid) -> Option<u32> {
    match cid {
        LocalCid::Known(cid) => Some(cid),
        LocalCid::NoDevice | LocalCid::Unknown => None,
    }
}
