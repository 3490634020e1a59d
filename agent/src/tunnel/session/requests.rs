//! What a session asks of the proxy: the forward to sshd, and those to other services.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::{Done, Session};
use crate::metadata::document::RemoteForward;
use crate::tunnel::channels::Service;
use crate::tunnel::fault::Fault;
use crate::tunnel::plan::Told;
use crate::tunnel::refusal;

impl Session {
    /// Asks for the forward to sshd.
    pub(super) fn request(&mut self) {
        if std::mem::replace(&mut self.requesting, true) {
            return;
        }
        let at = self.plan.spec.forward.clone();
        // Before it is granted: the proxy may open the first channel with the same breath.
        self.channels.add(&at, Service::Sshd);
        let job = self.forward(at, self.known_refusal());
        self.jobs.spawn(async move { Done::Forward(job.await) });
    }

    /// Why the forward to sshd is refused, where that is known without a look at the port. A
    /// ghost of ours is not looked at: each connection to its port puts sshd's check of it off.
    fn known_refusal(&self) -> Option<Fault> {
        let RemoteForward { bind, port } = self.plan.spec.forward.clone();
        let ghost = self.may_be_ghost().then(|| Fault::PortHeld {
            proxy: self.plan.proxy.to_string(),
            bind,
            port,
            detail: "a dead session of this guest may still have it",
        });
        self.refusal.clone().or(ghost)
    }

    fn may_be_ghost(&self) -> bool {
        self.plan.ours && self.since.elapsed() < self.plan.timing.port_held_ghost
    }

    pub(super) fn request_services(&mut self) {
        let all: Vec<_> = self.services.all().map(|(i, s)| (i, s.clone())).collect();
        for (index, service) in all {
            let to = Service::Other(service.to, service.origins);
            self.channels.add(&service.at, to);
            self.request_service(index, service.at);
        }
    }

    pub(super) fn request_due(&mut self) {
        while let Some((index, service)) = self.services.due(Instant::now()) {
            self.request_service(index, service.at);
        }
    }

    fn request_service(&mut self, index: usize, at: RemoteForward) {
        let job = self.forward(at, self.services.refusal(index));
        self.jobs
            .spawn(async move { Done::Service(index, job.await) });
    }

    /// Asks for one forward. `known` is why it was refused before.
    fn forward(
        &self,
        at: RemoteForward,
        known: Option<Fault>,
    ) -> impl Future<Output = Result<u16, Fault>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        let proxy = self.plan.proxy.to_string();
        let peer = self.line.peer();
        let timing = self.plan.timing.clone();
        async move {
            let after = timing.forward;
            match timeout(after, handle.tcpip_forward(&at.bind, u32::from(at.port))).await {
                // The library hands out a port only if it was left to the proxy.
                Ok(Ok(0)) => Ok(at.port),
                Ok(Ok(port)) => Ok(u16::try_from(port).unwrap_or(at.port)),
                Ok(Err(russh::Error::RequestDenied)) => Err(match known {
                    Some(fault) => fault,
                    None => refusal::explain(&handle, peer, proxy, at, &timing).await,
                }),
                Ok(Err(error)) => Err(Fault::ClosedByProxy {
                    proxy,
                    detail: error.to_string(),
                }),
                Err(_) => Err(Fault::ForwardTimeout { proxy, after }),
            }
        }
    }

    /// Takes the answer to the request for the forward to sshd.
    pub(super) fn answered(&mut self, answer: Result<u16, Fault>) -> Result<Told, Fault> {
        match answer {
            Ok(port) => {
                self.port = Some(port);
                self.refusal = None;
                let bind = self.plan.spec.forward.bind.clone();
                // It may be the proxy that chose it.
                self.channels
                    .add(&RemoteForward { bind, port }, Service::Sshd);
                Ok(Told::Granted(port))
            }
            Err(
                fault @ (Fault::PortHeld { .. }
                | Fault::ForwardDenied { .. }
                | Fault::ForwardingDisabled { .. }),
            ) => {
                if !self.may_be_ghost() {
                    self.refusal = Some(fault.clone());
                }
                let shared = self.services.any_up();
                Ok(Told::Refused { fault, shared })
            }
            Err(fault) => Err(fault),
        }
    }

    pub(super) async fn tell_forwards(&self) {
        // The driver is gone only when this task is about to be as well.
        let _ = self.tell.send(Told::Forwards(self.services.show())).await;
    }
}
