//! The connections that arrive through the tunnel, each led to the service that it is for.

mod task;
mod unanswered;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, info_span, warn};

use super::evidence::Evidence;
use super::handler::Incoming;
use super::plan::Plan;
use super::probe::{Desk, Reach, reach};
use crate::admission::{Admission, Bounds};
use crate::host;
use crate::metadata::document::RemoteForward;
use crate::origin::{Origin, Origins};
use crate::refusals::Refusals;
use crate::relay::{backlog::Backlog, dial::Dialer, outbox::Outbox};
use crate::sshd::Sshd;
use crate::status::board::Slice;
use crate::status::model::{RefusalCount, Tunnel};
use task::{Refused, Task};

/// What one session takes on, in all and of one origin. A stock proxy has descriptors for about a
/// thousand channels: one user of its public port does not get all of them. There is no bound on
/// the rate: a forward may lead to a web server, and sshd has bounds of its own for each origin.
const MOST: usize = 2048;
const OF_ORIGIN: usize = 768;

/// Between two lines of the journal that sum refusals up.
const SUMMARY: Duration = Duration::from_secs(60);

/// What a forward leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Sshd,
    Other(SocketAddr, Origins),
}

/// The channels of one session.
pub(super) struct Channels {
    listening: HashMap<(String, u16), Service>,
    admission: Admission,
    open: JoinSet<Result<(), Refused>>,
    refusals: Refusals,
    summed_up: Instant,
    dialer: Dialer,
    watch: Sshd,
    desk: Desk,
    slice: Slice<Tunnel>,
    backlog: Backlog,
    outbox: Outbox,
    evidence: Evidence,
    /// The forward to sshd is for everybody, and not for users of the proxy alone.
    public: bool,
}

impl Channels {
    /// None are open.
    pub(super) fn new(plan: &Plan, desk: Desk, outbox: Outbox, evidence: Evidence) -> Self {
        let Plan {
            spec,
            dialer,
            watch,
            slice,
            ..
        } = plan.clone();
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        Self {
            public: reach(&spec.forward.bind, nowhere, &[]) != Reach::Proxy,
            listening: HashMap::new(),
            admission: Admission::new(bounds()),
            open: JoinSet::new(),
            refusals: Refusals::default(),
            summed_up: Instant::now(),
            dialer,
            watch,
            desk,
            slice,
            backlog: Backlog::default(),
            outbox,
            evidence,
        }
    }

    /// From now on, what arrives at `at` on the proxy goes to `service`.
    pub(super) fn add(&mut self, at: &RemoteForward, service: Service) {
        self.listening.insert((at.bind.clone(), at.port), service);
    }

    /// Where the proxy listens for us.
    pub(super) fn listening(&self) -> Vec<(String, u16)> {
        self.listening.keys().cloned().collect()
    }

    /// Takes one channel up, or turns it away.
    pub(super) fn open(&mut self, incoming: Incoming) {
        let Some(service) = self.service(&incoming.at) else {
            warn!(at = ?incoming.at, "the proxy opened a channel for a forward we did not ask for");
            return;
        };
        let origin = origin(&incoming.from);
        let (address, dialer, expected) = match service {
            Service::Sshd => (
                self.watch.address(),
                self.dialer.clone(),
                self.desk.expected(),
            ),
            Service::Other(address, origins) => (address.into(), self.dialer.with(origins), None),
        };
        let party = origin.party();
        let admitted = self.admission.admit(&party, Instant::now().into_std());
        let place = admitted.map(|(place, _)| place).map_err(|reason| Refused {
            origin: party,
            reason,
        });
        // Users of the proxy itself reach a public forward also where nobody else does.
        let inside = match &origin {
            Origin::Client { address, .. } => address.to_canonical().is_loopback(),
            Origin::Cid(_) | Origin::Unix | Origin::Named(_) | Origin::Check => true,
        };
        let proves = !(self.public && inside);
        let span = info_span!("tunnel", %origin);
        let task = Task {
            dialer,
            address,
            origin,
            slice: self.slice.clone(),
            backlog: self.backlog.clone(),
            outbox: self.outbox.clone(),
            evidence: (service == Service::Sshd).then(|| self.evidence.clone()),
            proves,
            watch: (service == Service::Sshd).then(|| self.watch.clone()),
            desk: self.desk.clone(),
        };
        self.open
            .spawn(task.serve(incoming, expected, place).instrument(span));
    }

    /// Waits until a channel has ended, for ever if there is none; cancelling it loses nothing.
    pub(super) async fn reap(&mut self) {
        match self.open.join_next().await {
            Some(Ok(Err(refused))) => self.refused(&refused),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    fn refused(&mut self, refused: &Refused) {
        let Refused { origin, reason } = refused;
        if self.refusals.first_of(origin, *reason) {
            warn!(%origin, %reason, "refused a connection");
        }
        if self.summed_up.elapsed() >= SUMMARY
            && let Some(summary) = self.refusals.summary()
        {
            warn!("refused connections: {summary}");
            self.summed_up = Instant::now();
        }
        self.slice.update(|tunnel| {
            tunnel.refused += 1;
            RefusalCount::add(&mut tunnel.refusals, origin, *reason);
        });
    }

    /// Whether no channel is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Waits until all channels have ended.
    pub(super) async fn drain(&mut self) {
        while self.open.join_next().await.is_some() {}
    }

    /// The proxy names the bind address as it was asked for; if it says it in other words, the
    /// port tells, as long as it is used once only.
    fn service(&self, at: &(String, u32)) -> Option<Service> {
        let port = u16::try_from(at.1).ok()?;
        if let Some(service) = self.listening.get(&(at.0.clone(), port)) {
            return Some(*service);
        }
        let mut same_port = self
            .listening
            .iter()
            .filter(|((_, listening), _)| *listening == port);
        let (_, service) = same_port.next()?;
        same_port.next().is_none().then_some(*service)
    }
}

/// Where this process may open little, most of it is for the bridge.
fn bounds() -> Bounds {
    let total = MOST.min(host::descriptor_limit() / 8);
    Bounds {
        total,
        per_origin: OF_ORIGIN.min(total.div_ceil(2)),
        rate: None,
    }
}

fn origin((address, port): &(String, u32)) -> Origin {
    match address.parse() {
        Ok(address) => Origin::Client {
            address,
            port: u16::try_from(*port).unwrap_or_default(),
        },
        Err(_) => Origin::Named(address.clone()),
    }
}
