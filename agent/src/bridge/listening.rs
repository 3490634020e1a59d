//! How the bridge comes by its listener, and what it does without.

use std::io;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fault::Fault;
use super::foreign::{self, Proof};
use super::listener::{self, Adopted, Listener, is_lost, is_passing};
use super::pace::Pace;
use super::{Bridge, Stand};
use crate::explain::Explain;
use crate::host::LocalCid;
use crate::status::model;

impl Bridge {
    /// Takes an inherited listener, or makes the first attempt at one of our own.
    pub(super) fn start(&mut self) {
        match listener::adopt(&mut self.inherited) {
            Adopted::Listener(listener) => self.hold(listener),
            Adopted::Nothing => self.try_to_listen(),
            Adopted::Wrong(fault) => {
                warn!(code = fault.code(), "{fault}");
                self.remark = Some(model::Fault::after(None, &fault));
                self.try_to_listen();
            }
        }
    }

    fn hold(&mut self, listener: Listener) {
        info!(listen = %listener.name(), inherited = listener.is_inherited(), "listening");
        let cid = listener.local_cid();
        self.pace = Pace::default();
        if cid == LocalCid::NoDevice {
            self.pace.not_yet();
        }
        self.stand = Stand::Holding { listener, cid };
        self.publish();
    }

    pub(super) fn try_to_listen(&mut self) {
        match Listener::bind(&self.listen) {
            Ok(listener) => self.hold(listener),
            Err(Fault::Taken { .. }) => {
                self.pace.not_yet();
                if !matches!(self.stand, Stand::Foreign { .. }) {
                    info!(listen = %self.listen, "another program listens here; leaving it alone");
                    self.pace.at_once();
                    let proof = Proof::Pending;
                    self.stand = Stand::Foreign { proof };
                    self.publish();
                }
            }
            Err(fault) => self.lose(&fault),
        }
    }

    fn lose(&mut self, fault: &Fault) {
        self.pace.not_yet();
        self.stand = Stand::Without;
        self.wait_for(fault);
    }

    pub(super) async fn prove(&mut self, stop: &CancellationToken) {
        if let Stand::Foreign { proof } = &mut self.stand
            && self.pace.proof_is_due()
            && let Some(now) = stop.run_until_cancelled(foreign::prove(&self.listen)).await
        {
            self.pace.proven(matches!(now, Proof::Banner));
            *proof = now;
            self.publish();
        }
    }

    pub(super) fn on_accept_error(&mut self, error: io::Error) {
        let Stand::Holding { listener, .. } = &self.stand else {
            return;
        };
        if is_passing(&error) {
            return;
        }
        if is_lost(&error) && !listener.is_inherited() {
            self.lose(&Fault::Failed {
                listen: self.listen.clone(),
                source: error.into(),
            });
        } else if self.pace.not_accepted() == 1 {
            warn!(%error, "can't accept connections; trying again");
        }
    }

    /// Asks for our own context ID: nobody tells us when the device comes, or a restore changes it.
    pub(super) fn look_for_device(&mut self) {
        if let Stand::Holding { listener, .. } = &self.stand {
            let cid = listener.local_cid();
            if cid == LocalCid::NoDevice {
                self.pace.not_yet();
            } else {
                self.pace.well();
            }
            self.on_cid(cid);
        }
    }

    /// After a restore the device may be another one, which may come a moment later.
    pub(super) fn on_restore(&mut self) {
        self.look_for_device();
        self.pace.well();
        self.pace.not_yet();
        self.publish();
    }

    pub(super) fn on_cid(&mut self, now: LocalCid) {
        if let Stand::Holding { cid, .. } = &mut self.stand
            && *cid != now
        {
            debug!(?now, "this guest's context ID");
            *cid = now;
            self.publish();
        }
    }
}
