//! One SSH session to a proxy, from the dial to its death.
//!
//! [`run`] owns everything that belongs to the session: the connection, the channels, the probe.
//! When it returns, none of it is left.

mod checks;
mod requests;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use russh::Disconnect;
use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::channels::Channels;
use super::connect::{Connection, connect};
use super::evidence::Evidence;
use super::fault::Fault;
use super::handler::Gate;
use super::keepalive::{self, Watched};
use super::login::{log_in, renew};
use super::machine::Probe;
use super::plan::{Ask, Plan, Told};
use super::probe::Desk;
use super::services::Services;
use super::wire::Line;
use crate::host;
use crate::moment::at;

/// What runs beside the session's loop and comes back to it.
enum Done {
    Forward(Result<u16, Fault>),
    Service(usize, Result<u16, Fault>),
    Probe(Probe, bool),
    Alive(bool),
    LookForAddress,
    Given,
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
        Ok(connection) => Session::new(plan, connection, tell).run(asks, stop).await,
        Err(fault) => fault,
    }
}

/// Connects and logs in.
async fn open(plan: &Plan) -> Result<Connection, Fault> {
    renew(plan).await;
    let connection = connect(plan).await?;
    log_in(connection, &plan.proxy, &plan.spec.login, &plan.timing).await
}

struct Session {
    plan: Plan,
    tell: mpsc::Sender<Told>,
    handle: Arc<Handle<Gate>>,
    line: Line,
    incoming: mpsc::Receiver<super::handler::Incoming>,
    ended: mpsc::Receiver<Fault>,
    desk: Desk,
    evidence: Evidence,
    channels: Channels,
    services: Services,
    jobs: JoinSet<Done>,
    requesting: bool,
    probing: bool,
    retiring: bool,
    /// Full packets have been seen to pass, both ways.
    full_packets: bool,
    /// As the driver knows it.
    in_use: bool,
    since: Instant,
    /// When a probe was last asked for.
    asked: Instant,
    /// The port of the forward to sshd, once it is granted.
    port: Option<u16>,
    /// How that was refused first; the reason stays the same for the life of a session.
    refusal: Option<Fault>,
}

impl Session {
    fn new(plan: Plan, connection: Connection, tell: mpsc::Sender<Told>) -> Self {
        let Connection {
            handle,
            line,
            incoming,
            ended,
        } = connection;
        let (desk, evidence) = (Desk::default(), Evidence::default());
        let now = Instant::now();
        Self {
            channels: Channels::new(&plan, desk.clone(), line.outbox(), evidence.clone()),
            services: Services::new(plan.spec.forwards.clone(), plan.timing.clone()),
            plan,
            tell,
            handle: Arc::new(handle),
            line,
            incoming,
            ended,
            desk,
            evidence,
            jobs: JoinSet::new(),
            requesting: false,
            probing: false,
            retiring: false,
            full_packets: false,
            in_use: false,
            since: now,
            asked: now,
            port: None,
            refusal: None,
        }
    }

    async fn run(mut self, mut asks: mpsc::Receiver<Ask>, stop: CancellationToken) -> Fault {
        self.request();
        self.request_services();
        self.tell_forwards().await;
        let mut silent = pin!(keepalive::watch(Watched {
            handle: Arc::clone(&self.handle),
            arrivals: self.line.arrivals(),
            vitals: self.line.vitals(),
            proxy: self.plan.proxy.to_string(),
            address: SocketAddr::new(self.line.peer(), self.plan.proxy.port),
            timing: self.plan.timing.clone(),
            tell: self.tell.clone(),
        }));
        loop {
            let ended = tokio::select! {
                Some(ask) = asks.recv() => self.obey(ask).await,
                Some(Ok(done)) = self.jobs.join_next() => self.done(done).await,
                Some(incoming) = self.incoming.recv() => {
                    self.channels.open(incoming);
                    Ok(())
                }
                () = self.channels.reap() => Ok(()),
                () = self.evidence.came() => {
                    self.full_packets = true;
                    // The driver is gone only when this task is about to be as well.
                    let _ = self.tell.send(Told::Probed(Probe::Carried)).await;
                    Ok(())
                }
                () = at(self.services.deadline()) => {
                    self.request_due();
                    Ok(())
                }
                Some(fault) = self.ended.recv() => Err(fault),
                fault = &mut silent => Err(fault),
                () = stop.cancelled() => return self.close().await,
            };
            if let Err(fault) = ended {
                if let Fault::KeepaliveLost { .. }
                | Fault::PathMtu { .. }
                | Fault::AddressGone { .. } = fault
                {
                    self.line.haunt(&self.plan.ghosts);
                }
                return fault;
            }
            if self.in_use == self.channels.is_idle() {
                self.in_use = !self.in_use;
                let _ = self.tell.send(Told::InUse(self.in_use)).await;
            }
            if self.retiring && self.jobs.is_empty() && self.channels.is_idle() {
                return self.close().await;
            }
        }
    }

    async fn obey(&mut self, ask: Ask) -> Result<(), Fault> {
        match ask {
            Ask::Request => self.request(),
            Ask::Probe => self.probe().await,
            Ask::CheckAddress => return self.check_address(),
            Ask::CheckPeer => self.check_peer(),
            Ask::Retire => {
                self.retiring = true;
                let (handle, listening) = (Arc::clone(&self.handle), self.channels.listening());
                self.jobs.spawn(async move {
                    give_back(&handle, listening).await;
                    Done::Given
                });
            }
        }
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<(), Fault> {
        let told = match done {
            Done::Forward(answer) => {
                self.requesting = false;
                self.answered(answer)?
            }
            Done::Service(_, Err(fault @ Fault::ClosedByProxy { .. })) => return Err(fault),
            Done::Service(index, answer) => {
                if let Err(fault) = &answer {
                    warn!(%fault, "a forward is refused");
                }
                self.services.answered(Instant::now(), index, answer);
                self.tell_forwards().await;
                return Ok(());
            }
            Done::Probe(probe, padded) => {
                self.probing = false;
                self.full_packets |= padded && probe == Probe::Answered;
                // Users are connected, so it had no padding: a path that loses full packets
                // answers it as well.
                if probe == Probe::Answered && !self.full_packets {
                    return Ok(());
                }
                Told::Probed(probe)
            }
            Done::LookForAddress if !host::has_address(self.line.local()) => {
                return Err(self.address_gone());
            }
            Done::Alive(true) | Done::Given | Done::LookForAddress => return Ok(()),
            Done::Alive(false) => {
                return Err(Fault::KeepaliveLost {
                    proxy: self.plan.proxy.to_string(),
                    after: self.plan.timing.wake,
                });
            }
        };
        // The driver is gone only when this task is about to be as well.
        let _ = self.tell.send(told).await;
        Ok(())
    }

    /// Gives the ports back, lets open connections end for a moment, and says goodbye.
    async fn close(mut self) -> Fault {
        let time = self.plan.timing.close;
        let _ = timeout(time, async {
            give_back(&self.handle, self.channels.listening()).await;
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

async fn give_back(handle: &Handle<Gate>, listening: Vec<(String, u16)>) {
    for (bind, port) in listening {
        let cancelled = handle.cancel_tcpip_forward(bind, u32::from(port)).await;
        debug!(?cancelled, port, "gave the port back");
    }
}
