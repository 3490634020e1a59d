//! The status contract: what `vmagent status --json` prints.
//!
//! Names and meanings here are relied on from outside. Add fields; never rename or remove one.

mod config;
mod nat;
mod refusals;
mod report;
mod rfc3339;
mod sshd;
mod tunnel;
mod ways;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::explain::Explain;

pub use config::{ConfigState, Configuration};
pub use nat::{
    DefaultRoute, InterfaceAddress, Nat, NatInputs, NatVerdict, PublicKind, TunnelDecision,
};
pub use refusals::{RefusalCount, RefusalReason};
pub use report::{Report, ReportState, ReportTarget};
pub use sshd::{FoundBy, SshdState};
pub use tunnel::{Certificate, Forward, ForwardState, ProxyRecord, Tunnel, TunnelState};
pub use ways::{Login, LoginSource, WayIn};

/// The version of this contract.
pub const SCHEMA: u32 = 1;

/// A moment of wall-clock time, in UTC and to the second (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(#[serde(with = "rfc3339")] pub SystemTime);

impl Timestamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// How long ago it was; zero for a moment still to come.
    #[must_use]
    pub fn age(self) -> Duration {
        SystemTime::now().duration_since(self.0).unwrap_or_default()
    }
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the running agent.
    pub version: String,
    /// Counts the changes since the agent started.
    pub generation: u64,
    /// The sum of the parts.
    pub health: Health,
    /// The cloud's name for this machine, where one is known.
    pub instance_id: Option<String>,
    /// The host name of this guest.
    #[serde(default)]
    pub host_name: Option<String>,
    /// The account that the commands of `ways_in` log in to.
    #[serde(default)]
    pub login: Login,
    /// True when the program on disk is no longer the one that runs.
    pub restart_pending: bool,
    /// The configuration in force.
    #[serde(default)]
    pub config: Configuration,
    /// The vsock side.
    pub bridge: Bridge,
    /// The proxy side.
    pub tunnel: Tunnel,
    /// Where the tunnel document comes from.
    pub metadata: Metadata,
    /// Whether this guest is behind NAT, and how we know.
    pub nat: Nat,
    /// What both ways lead to.
    pub sshd: Sshd,
    /// The commands that reach this guest now.
    pub ways_in: Vec<WayIn>,
    /// The public host keys of the guest's sshd, without names.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Who is told of them, and of the port.
    #[serde(default)]
    pub reports: Vec<Report>,
}

/// The sum of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// All that should be up is up.
    Ok,
    /// Something that should be up is not.
    Degraded,
    /// Not everything has been tried yet.
    Starting,
}

/// Why something is not up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A stable kebab-case code.
    pub code: String,
    /// What was tried and what came back.
    pub message: String,
    /// What a person can do about it.
    pub advice: String,
    /// When it was first met in a row.
    pub since: Timestamp,
    /// How often it was met in a row.
    pub count: u64,
}

impl Fault {
    /// The record of `error`; one that has the code of `previous` continues its count.
    pub fn after(previous: Option<&Self>, error: &impl Explain) -> Self {
        let same = previous.filter(|fault| fault.code == error.code());
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            advice: error.advice(),
            since: same.map_or_else(Timestamp::now, |fault| fault.since),
            count: same.map_or(1, |fault| fault.count.saturating_add(1)),
        }
    }
}

/// The slice of the vsock bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// See [`BridgeState`].
    pub state: BridgeState,
    /// Since when.
    pub since: Timestamp,
    /// What it listens on: `vsock:22`, `unix:/path`; null when off.
    pub listen: Option<String>,
    /// This guest's own context ID, once it is known.
    pub cid: Option<u32>,
    /// Connections open now.
    pub open: u64,
    /// Connections relayed since the start.
    pub accepted: u64,
    /// Connections of an agent before this one that were continued.
    #[serde(default)]
    pub resumed: u64,
    /// Connections turned away: a CID that is not allowed, over a limit, or sshd never came.
    pub refused: u64,
    /// Who was turned away and why, the most recent last.
    pub refusals: Vec<RefusalCount>,
    /// Where connections came from, the most recent last.
    pub origins: Vec<OriginCount>,
    /// Why it is not ready.
    pub fault: Option<Fault>,
}

/// The states of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeState {
    /// Listening, and sshd answers behind it.
    Ready,
    /// No device, no permission or no sshd yet; retried.
    Waiting,
    /// Another listener serves the port.
    Foreign,
    /// Switched off in the configuration.
    Off,
}

/// How often one origin has connected from one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginCount {
    /// `cid 2`, or an IP address as the proxy reported it.
    pub origin: String,
    /// The address that sshd, or the service behind a forward, sees.
    pub seen_as: String,
    /// Connections since the start.
    pub accepted: u64,
}

impl OriginCount {
    /// How many origins a list keeps.
    const KEPT: usize = 16;

    /// Counts one connection of `origin`, and forgets the origin seen longest ago when full.
    pub fn add(list: &mut Vec<Self>, origin: String, seen_as: String) {
        let before = list
            .iter()
            .position(|entry| entry.origin == origin && entry.seen_as == seen_as);
        let accepted = before.map_or(0, |index| list.remove(index).accepted);
        if list.len() == Self::KEPT {
            list.remove(0);
        }
        list.push(Self {
            origin,
            seen_as,
            accepted: accepted.saturating_add(1),
        });
    }
}

/// The slice of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// See [`MetadataState`].
    pub state: MetadataState,
    /// The source of the document in force.
    pub source: Option<String>,
    /// When that document was fetched.
    pub fetched_at: Option<Timestamp>,
    /// It was fetched by an agent before this one, and its source has not answered since.
    #[serde(default)]
    pub kept: bool,
    /// What the document says that is not understood, key by key.
    pub warnings: Vec<String>,
    /// Sources that are not asked.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Why the last round failed.
    pub fault: Option<Fault>,
    /// Why the document in force is not kept for the next agent.
    #[serde(default)]
    pub unkept: Option<Fault>,
    /// Counts the documents that were put in force or taken back. Not in the JSON: see
    /// [`Status::is_settling`].
    #[serde(skip)]
    pub revision: u64,
    /// A file that may hold the first document has changed, and is being read. Not in the JSON.
    #[serde(skip)]
    pub stirred: bool,
}

/// A source that is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub source: String,
    /// Why it can't have anything.
    pub reason: String,
}

/// The states of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataState {
    /// The first round has not ended.
    Looking,
    /// A source has a document.
    Found,
    /// Every source answered, and none has a document.
    Absent,
    /// A source failed; the last good document, if any, stays in force.
    Failed,
}

/// The slice of sshd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sshd {
    /// See [`SshdState`].
    pub state: SshdState,
    /// Where it is expected.
    pub address: String,
    /// The source of that address; null until the agent has searched for sshd.
    #[serde(default)]
    pub found_by: Option<FoundBy>,
    /// What it said of itself.
    pub banner: Option<String>,
    /// Milliseconds from the dial to the banner.
    pub latency_ms: Option<f64>,
    /// Whether each origin reaches sshd from an address of its own, so that sshd's penalties and
    /// limits act on it alone; null until sshd has answered.
    #[serde(default)]
    pub origins_apart: Option<bool>,
    /// Whether sshd looks up names of clients (`UseDNS`); null where its configuration is unreadable.
    #[serde(default)]
    pub use_dns: Option<bool>,
    /// Why it is not ready.
    pub fault: Option<Fault>,
}
