//! How the bridge comes by its listener, and what it does without.

use std::io;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::diag;
use super::fault::Fault;
use super::foreign::{self, Proof};
use super::listener::{self, Adopted, Listener, is_lost, is_passing};
use super::pace::Pace;
use super::{Bridge, Stand};
use crate::config::Listen;
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
            Err(Fault::Taken { .. }) => self.leave_alone(),
            Err(Fault::Denied { .. }) if self.somebody_listens() => self.leave_alone(),
            Err(fault @ Fault::Denied { .. }) => {
                self.lose(&fault);
                self.ask_for_the_port();
            }
            Err(fault) => {
                self.hindered |= matches!(fault, Fault::NoVsock(_));
                self.lose(&fault);
            }
        }
    }

    /// Whether another has the port; asked where the kernel tells us no more than that we may not.
    fn somebody_listens(&self) -> bool {
        let Listen::Vsock(port) = self.listen else {
            return false;
        };
        diag::somebody_listens(port).unwrap_or_else(|error| {
            debug!(%error, "the kernel does not say who listens");
            false
        })
    }

    fn leave_alone(&mut self) {
        self.hindered = true;
        self.pace.taken();
        if !matches!(self.stand, Stand::Foreign { .. }) {
            info!(listen = %self.listen, "another program listens here; leaving it alone");
            self.pace.at_once();
            let proof = Proof::Pending;
            self.stand = Stand::Foreign { proof };
            self.publish();
        }
    }

    /// Nothing but a privilege keeps the port from us any more, and the service manager, which has
    /// it, hands a port over when it starts us and at no other time. Asked once for each time that
    /// something else was in the way: it may have its reasons not to.
    fn ask_for_the_port(&mut self) {
        if let (Some(restart), Listen::Vsock(_)) = (&self.restart, &self.listen)
            && std::mem::take(&mut self.hindered)
        {
            info!(listen = %self.listen, "it is free now: asking to be started anew with it");
            restart.cancel();
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
