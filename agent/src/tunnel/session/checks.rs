//! The checks of a session: of the forward, of this guest's address, and of the proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Done, Session};
use crate::host;
use crate::tunnel::evidence::Traffic;
use crate::tunnel::fault::Fault;
use crate::tunnel::keepalive;
use crate::tunnel::machine::Probe;
use crate::tunnel::plan::Told;
use crate::tunnel::probe::Probing;
use crate::tunnel::timing::Timing;

/// How long an address may be gone while users are connected through the session.
const RETURN: Duration = Duration::from_secs(5);

impl Session {
    /// Probes, where there is a need: a user's traffic proves more, and would hold the probe up.
    pub(super) async fn probe(&mut self) {
        let Some(port) = self.port else { return };
        let since = std::mem::replace(&mut self.asked, Instant::now());
        match self.evidence.since(since) {
            Traffic::Proof => {
                self.full_packets = true;
                let _ = self.tell.send(Told::Probed(Probe::Carried)).await;
                return;
            }
            Traffic::Busy => return,
            Traffic::None => self.evidence.want(),
        }
        if std::mem::replace(&mut self.probing, true) {
            return;
        }
        let probing = Probing {
            handle: Arc::clone(&self.handle),
            desk: self.desk.clone(),
            host: self.plan.proxy.host.clone(),
            peer: self.line.peer(),
            segment: self.plan.segment,
            bind: self.plan.spec.forward.bind.clone(),
            port,
            padded: self.channels.is_idle(),
            sshd: self.plan.watch.address(),
            timing: self.plan.timing.clone(),
        };
        let padded = probing.padded;
        self.jobs
            .spawn(async move { Done::Probe(probing.run().await, padded) });
    }

    /// Ends the session if this guest no longer has its address: at once, or where users are
    /// connected, if it has not come back in a while.
    pub(super) fn check_address(&mut self) -> Result<(), Fault> {
        if host::has_address(self.line.local()) {
            // An address that a stale session is bound to may be back.
            self.plan.ghosts.lay_to_rest(self.line.peer());
            return Ok(());
        }
        if self.channels.is_idle() {
            return Err(self.address_gone());
        }
        // A link that flaps, or a renewed lease, brings it back, and the connections with it.
        self.jobs.spawn(async {
            sleep(RETURN).await;
            Done::LookForAddress
        });
        Ok(())
    }

    /// Asks the proxy for a sign of life; [`Done::Alive`] has the answer.
    pub(super) fn check_peer(&mut self) {
        let handle = Arc::clone(&self.handle);
        let Timing {
            wake,
            keepalive_lost,
            ..
        } = self.plan.timing;
        // Users may still be connected: as long as a keepalive may take.
        let wake = if self.channels.is_idle() {
            wake
        } else {
            keepalive_lost
        };
        let (arrivals, vitals) = (self.line.arrivals(), self.line.vitals());
        self.jobs.spawn(async move {
            let ping = async { handle.send_ping().await.is_ok() };
            let stands = keepalive::stands(ping, arrivals, || vitals.now(), wake);
            Done::Alive(stands.await)
        });
    }

    pub(super) fn address_gone(&self) -> Fault {
        Fault::AddressGone {
            proxy: self.plan.proxy.to_string(),
            address: self.line.local(),
        }
    }
}
