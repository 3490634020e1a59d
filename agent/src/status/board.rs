//! The board: the current [`Status`] in a `watch`, one [`Slice`] for each part.

use tokio::sync::watch;

use super::model::{
    Bridge, BridgeState, Certificate, Configuration, Health, Login, Metadata, MetadataState, Nat,
    NatInputs, NatVerdict, Report, SCHEMA, Sshd, SshdState, Status, Timestamp, Tunnel,
    TunnelDecision, TunnelState,
};
use super::summary;

/// Holds the status; hands out slices to write and receivers to read.
#[derive(Debug, Clone)]
pub struct Board {
    status: watch::Sender<Status>,
}

/// One part's own piece of the status; cloned only within that part.
#[derive(Debug)]
pub struct Slice<T: 'static> {
    status: watch::Sender<Status>,
    project: fn(&mut Status) -> &mut T,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        Self {
            status: self.status.clone(),
            project: self.project,
        }
    }
}

impl<T: Clone + PartialEq> Slice<T> {
    /// Changes this slice. Readers wake, and the generation moves, only if it is different then.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        self.status.send_if_modified(|status| {
            let slice = (self.project)(status);
            let before = slice.clone();
            change(slice);
            if *slice == before {
                return false;
            }
            status.generation += 1;
            status.health = summary::health(status);
            status.ways_in = summary::ways_in(status);
            true
        });
    }

    /// A copy of this slice.
    pub fn get(&self) -> T {
        let mut status = self.status.borrow().clone();
        (self.project)(&mut status).clone()
    }
}

impl Board {
    /// A board on which nothing has happened yet; `sshd` is where sshd is expected.
    #[must_use]
    pub fn new(sshd: &str) -> Self {
        Self {
            status: watch::Sender::new(blank(sshd)),
        }
    }

    /// A receiver of every new generation; slow readers skip to the newest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The bridge's slice.
    #[must_use]
    pub fn bridge(&self) -> Slice<Bridge> {
        self.slice(|status| &mut status.bridge)
    }

    /// The tunnel's slice.
    #[must_use]
    pub fn tunnel(&self) -> Slice<Tunnel> {
        self.slice(|status| &mut status.tunnel)
    }

    /// The certificate of the document in force, within the tunnel's slice.
    #[must_use]
    pub fn certificate(&self) -> Slice<Option<Certificate>> {
        self.slice(|status| &mut status.tunnel.certificate)
    }

    /// The fingerprint of the document's key, in the tunnel's slice.
    #[must_use]
    pub fn key(&self) -> Slice<Option<String>> {
        self.slice(|status| &mut status.tunnel.key)
    }

    /// The metadata's slice.
    #[must_use]
    pub fn metadata(&self) -> Slice<Metadata> {
        self.slice(|status| &mut status.metadata)
    }

    /// The NAT verdict's slice.
    #[must_use]
    pub fn nat(&self) -> Slice<Nat> {
        self.slice(|status| &mut status.nat)
    }

    /// The slice of the watch over sshd.
    #[must_use]
    pub fn sshd(&self) -> Slice<Sshd> {
        self.slice(|status| &mut status.sshd)
    }

    /// The name of this machine.
    #[must_use]
    pub fn instance_id(&self) -> Slice<Option<String>> {
        self.slice(|status| &mut status.instance_id)
    }

    /// The host name of this guest.
    #[must_use]
    pub fn host_name(&self) -> Slice<Option<String>> {
        self.slice(|status| &mut status.host_name)
    }

    /// The account that the printed commands log in to.
    #[must_use]
    pub fn login(&self) -> Slice<Login> {
        self.slice(|status| &mut status.login)
    }

    /// The host keys of the guest's sshd.
    #[must_use]
    pub fn host_keys(&self) -> Slice<Vec<String>> {
        self.slice(|status| &mut status.host_keys)
    }

    /// Those who are told how this guest is to be reached.
    #[must_use]
    pub fn reports(&self) -> Slice<Vec<Report>> {
        self.slice(|status| &mut status.reports)
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Slice<Configuration> {
        self.slice(|status| &mut status.config)
    }

    /// Whether a newer program waits on disk.
    #[must_use]
    pub fn restart_pending(&self) -> Slice<bool> {
        self.slice(|status| &mut status.restart_pending)
    }

    fn slice<T>(&self, project: fn(&mut Status) -> &mut T) -> Slice<T> {
        Slice {
            status: self.status.clone(),
            project,
        }
    }
}

fn blank(sshd: &str) -> Status {
    let since = Timestamp::now();
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: 0,
        health: Health::Starting,
        instance_id: None,
        host_name: None,
        login: Login::default(),
        restart_pending: false,
        config: Configuration::default(),
        bridge: Bridge {
            state: BridgeState::Waiting,
            since,
            listen: None,
            cid: None,
            open: 0,
            accepted: 0,
            resumed: 0,
            refused: 0,
            refusals: Vec::new(),
            origins: Vec::new(),
            fault: None,
        },
        tunnel: Tunnel {
            state: TunnelState::Off,
            since,
            proxy: None,
            public_host: None,
            key: None,
            bind: None,
            port: None,
            proven: false,
            unproven: None,
            attempt: 0,
            forwards: Vec::new(),
            proxies: Vec::new(),
            next_attempt_at: None,
            round_trip_ms: None,
            last_probe_at: None,
            open: 0,
            accepted: 0,
            refused: 0,
            refusals: Vec::new(),
            origins: Vec::new(),
            certificate: None,
            fault: None,
            wanted: 0,
        },
        metadata: Metadata {
            state: MetadataState::Looking,
            source: None,
            fetched_at: None,
            kept: false,
            warnings: Vec::new(),
            left_out: Vec::new(),
            fault: None,
            unkept: None,
            revision: 0,
            stirred: false,
        },
        nat: Nat {
            verdict: NatVerdict::Unknown,
            rule: "nothing is known yet".to_owned(),
            inputs: NatInputs::default(),
            decision: TunnelDecision::NotAsked,
            held_until: None,
            address: None,
            revision: 0,
            wanted: 0,
        },
        sshd: Sshd {
            state: SshdState::Waiting,
            address: sshd.to_owned(),
            banner: None,
            latency_ms: None,
            found_by: None,
            origins_apart: None,
            use_dns: None,
            fault: None,
        },
        ways_in: Vec::new(),
        host_keys: Vec::new(),
        reports: Vec::new(),
    }
}
