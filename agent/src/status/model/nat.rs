//! What the status says of NAT, and of what follows from it.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The slice of the NAT verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// See [`NatVerdict`].
    pub verdict: NatVerdict,
    /// The rule that decided, as a sentence.
    pub rule: String,
    /// What it decided from.
    pub inputs: NatInputs,
    /// What follows for the tunnel.
    #[serde(default)]
    pub decision: TunnelDecision,
    /// A tunnel that was up is kept until then, should the verdict go on to need none.
    #[serde(default)]
    pub held_until: Option<Timestamp>,
    /// The public address by which this guest is reached; null behind NAT.
    #[serde(default)]
    pub address: Option<String>,
    /// The [`super::Metadata::revision`] that the decision is about. Not in the JSON.
    #[serde(skip)]
    pub revision: u64,
    /// Counts the changes of the tunnel that is wanted. Not in the JSON.
    #[serde(skip)]
    pub wanted: u64,
}

/// How this guest stands to the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatVerdict {
    /// A global address on its own interface.
    Direct,
    /// A public address that is mapped to this guest alone.
    OneToOne,
    /// Only addresses that nobody outside can dial.
    Nat,
    /// Not enough is known.
    Unknown,
}

/// Whether a tunnel is held, and who decided it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelDecision {
    /// There is no document that asks for one.
    #[default]
    NotAsked,
    /// `when: always`.
    Always,
    /// `when: never`.
    Never,
    /// `when: auto`, and the verdict needs one.
    Needed,
    /// `when: auto`, and the verdict needs none.
    NotNeeded,
}

/// What the NAT verdict was decided from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatInputs {
    /// Addresses of the interfaces that carry a default route.
    pub addresses: Vec<String>,
    /// The public address that the metadata names.
    pub public_address: Option<String>,
    /// Whose that address is.
    #[serde(default)]
    pub public_kind: PublicKind,
    /// The source that says so; null while none has answered.
    #[serde(default)]
    pub public_source: Option<String>,
    /// `addresses`, each with its interface.
    #[serde(default)]
    pub interfaces: Vec<InterfaceAddress>,
    /// Every default route, the one that counts first in each family.
    #[serde(default)]
    pub default_routes: Vec<DefaultRoute>,
}

/// What the metadata says of a public address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicKind {
    /// Nothing, or nothing that would prove anything.
    #[default]
    Unknown,
    /// That there is none.
    None,
    /// This guest's own.
    Own,
    /// That of a load balancer, which may serve others as well.
    LoadBalancer,
}

/// An address that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: String,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRoute {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The interface that it leads to.
    pub interface: String,
    /// The lowest one of its family counts.
    pub metric: u32,
}
