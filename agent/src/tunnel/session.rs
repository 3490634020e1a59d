//! One SSH session to a proxy, from the dial to its death.
//!
//! [`run`] owns everything that belongs to the session: the connection, the channels, the probe.
//! When it returns, none of it is left.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use russh::Disconnect;
use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::channels::{Channels, Service};
use super::connect::{Connection, connect};
use super::fault::Fault;
use super::handler::Gate;
use super::keepalive;
use super::login::log_in;
use super::machine::Probe;
use super::probe::{Desk, Probing};
use super::timing::Timing;
use super::wire::Line;
use crate::metadata::document::{Proxy, RemoteForward, TunnelSpec};
use crate::relay::dial::Dialer;
use crate::status::board::Slice;
use crate::status::model;

/// What a session is to do.
pub(super) struct Plan {
    pub(super) spec: Arc<TunnelSpec>,
    pub(super) proxy: Proxy,
    pub(super) sshd: SocketAddr,
    pub(super) dialer: Dialer,
    pub(super) timing: Timing,
    pub(super) slice: Slice<model::Tunnel>,
}

/// What the driver asks of a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The forward to sshd, again.
    Request,
    /// A probe, unless one is under way.
    Probe,
}

/// What a live session tells the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Granted(u16),
    Refused(Fault),
    Probed(Probe),
}

/// What runs beside the session's loop and comes back to it.
enum Done {
    Forward(Result<u16, Fault>),
    Service(usize, Result<u16, Fault>),
    Probe(Probe),
}

/// Runs one session; returns why it ended. `stop` ends it in an orderly way.
pub(super) async fn run(
    plan: Plan,
    asks: mpsc::Receiver<Ask>,
    tell: mpsc::Sender<Told>,
    stop: CancellationToken,
) -> Fault {
    let connection = tokio::select! {
        connected = open(&plan) => connected,
        () = stop.cancelled() => return Fault::Stopped,
    };
    match connection {
        Ok(connection) => Session::new(plan, connection).run(asks, tell, stop).await,
        Err(fault) => fault,
    }
}

/// Connects and logs in.
async fn open(plan: &Plan) -> Result<Connection, Fault> {
    let connection = connect(&plan.proxy, &plan.timing).await?;
    log_in(connection, &plan.proxy, &plan.spec.login, &plan.timing).await
}

struct Session {
    plan: Plan,
    handle: Arc<Handle<Gate>>,
    line: Line,
    peer: std::net::IpAddr,
    incoming: mpsc::Receiver<super::handler::Incoming>,
    ended: mpsc::Receiver<Fault>,
    desk: Desk,
    channels: Channels,
    jobs: JoinSet<Done>,
    probing: bool,
    /// The port of the forward to sshd, once it is granted.
    port: Option<u16>,
}

impl Session {
    fn new(plan: Plan, connection: Connection) -> Self {
        let Connection {
            handle,
            line,
            peer,
            incoming,
            ended,
        } = connection;
        let desk = Desk::new();
        Self {
            channels: Channels::new(
                plan.dialer.clone(),
                plan.sshd,
                desk.clone(),
                plan.slice.clone(),
            ),
            plan,
            handle: Arc::new(handle),
            line,
            peer,
            incoming,
            ended,
            desk,
            jobs: JoinSet::new(),
            probing: false,
            port: None,
        }
    }

    async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        tell: mpsc::Sender<Told>,
        stop: CancellationToken,
    ) -> Fault {
        self.request();
        self.request_services();
        let mut silent = pin!(keepalive::watch(
            Arc::clone(&self.handle),
            self.line.arrivals(),
            self.plan.proxy.to_string(),
            self.plan.timing.clone(),
            self.plan.slice.clone(),
        ));
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => match ask {
                    Ask::Request => self.request(),
                    Ask::Probe => self.probe(),
                },
                Some(Ok(done)) = self.jobs.join_next() => match self.done(done) {
                    Ok(Some(told)) => {
                        // The driver is gone only when this task is about to be as well.
                        let _ = tell.send(told).await;
                    }
                    Ok(None) => {}
                    Err(fault) => return fault,
                },
                Some(incoming) = self.incoming.recv() => self.channels.open(incoming),
                () = self.channels.reap() => {}
                Some(fault) = self.ended.recv() => return fault,
                fault = &mut silent => return fault,
                () = stop.cancelled() => return self.close().await,
            }
        }
    }

    /// Asks for the forward to sshd.
    fn request(&mut self) {
        let at = self.plan.spec.forward.clone();
        // Before it is granted: the proxy may open the first channel with the same breath.
        self.channels.add(&at, Service::Sshd);
        let job = self.forward(at);
        self.jobs.spawn(async move { Done::Forward(job.await) });
    }

    fn request_services(&mut self) {
        let services = self.plan.spec.forwards.clone();
        let shown = services.iter().map(|service| model::Forward {
            bind: service.at.bind.clone(),
            port: service.at.port,
            to: service.to.to_string(),
            granted: false,
            fault: None,
        });
        self.plan
            .slice
            .update(|slice| slice.forwards = shown.collect());
        for (index, service) in services.into_iter().enumerate() {
            self.channels.add(&service.at, Service::Other(service.to));
            let job = self.forward(service.at);
            self.jobs
                .spawn(async move { Done::Service(index, job.await) });
        }
    }

    fn forward(
        &self,
        at: RemoteForward,
    ) -> impl Future<Output = Result<u16, Fault>> + Send + use<> {
        let handle = Arc::clone(&self.handle);
        let proxy = self.plan.proxy.to_string();
        let after = self.plan.timing.forward;
        async move {
            match timeout(after, handle.tcpip_forward(&at.bind, u32::from(at.port))).await {
                // The library hands out a port only if it was left to the proxy.
                Ok(Ok(0)) => Ok(at.port),
                Ok(Ok(port)) => Ok(u16::try_from(port).unwrap_or(at.port)),
                Ok(Err(russh::Error::RequestDenied)) => Err(Fault::PortHeld {
                    proxy,
                    bind: at.bind,
                    port: at.port,
                }),
                Ok(Err(error)) => Err(Fault::ClosedByProxy {
                    proxy,
                    detail: error.to_string(),
                }),
                Err(_) => Err(Fault::ForwardTimeout { proxy, after }),
            }
        }
    }

    fn probe(&mut self) {
        let Some(port) = self.port else { return };
        if std::mem::replace(&mut self.probing, true) {
            return;
        }
        let probing = Probing {
            handle: Arc::clone(&self.handle),
            desk: self.desk.clone(),
            peer: self.peer,
            bind: self.plan.spec.forward.bind.clone(),
            port,
            sshd: self.plan.sshd,
            timing: self.plan.timing.clone(),
        };
        self.jobs
            .spawn(async move { Done::Probe(probing.run().await) });
    }

    fn done(&mut self, done: Done) -> Result<Option<Told>, Fault> {
        match done {
            Done::Forward(Ok(port)) => {
                self.port = Some(port);
                let bind = self.plan.spec.forward.bind.clone();
                // It may be the proxy that chose it.
                self.channels
                    .add(&RemoteForward { bind, port }, Service::Sshd);
                Ok(Some(Told::Granted(port)))
            }
            Done::Forward(Err(fault @ Fault::PortHeld { .. })) => Ok(Some(Told::Refused(fault))),
            Done::Forward(Err(fault)) => Err(fault),
            Done::Service(index, result) => {
                self.service(index, result);
                Ok(None)
            }
            Done::Probe(probe) => {
                self.probing = false;
                Ok(Some(Told::Probed(probe)))
            }
        }
    }

    /// A service that the proxy refuses does not take the way in down with it.
    fn service(&mut self, index: usize, result: Result<u16, Fault>) {
        if let Err(fault) = &result {
            warn!(%fault, "a forward is refused");
        }
        self.plan.slice.update(|slice| {
            if let Some(forward) = slice.forwards.get_mut(index) {
                forward.granted = result.is_ok();
                forward.fault = result.err().map(|fault| model::Fault::after(None, &fault));
            }
        });
    }

    /// Gives the ports back, lets open connections end for a moment, and says goodbye.
    async fn close(mut self) -> Fault {
        let time = self.plan.timing.close;
        let _ = timeout(time, async {
            for (bind, port) in self.channels.listening() {
                let cancelled = self
                    .handle
                    .cancel_tcpip_forward(bind, u32::from(port))
                    .await;
                debug!(?cancelled, port, "gave the port back");
            }
            self.channels.drain().await;
        })
        .await;
        let _ = timeout(time, async {
            let goodbye = self.handle.disconnect(Disconnect::ByApplication, "", "");
            if goodbye.await.is_ok() {
                self.ended.recv().await;
            }
        })
        .await;
        Fault::Stopped
    }
}
