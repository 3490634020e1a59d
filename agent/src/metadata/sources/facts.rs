//! What services say of this guest beside the document.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::SourceName;

/// What the metadata says of this guest beside the document. Best effort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Under which address others reach this guest.
    pub public: PublicAddress,
    /// Who said so, also that it can't tell; none while nobody was asked or has answered.
    pub public_source: Option<SourceName>,
    /// The cloud's name for this guest.
    pub instance_id: Option<String>,
    /// Who calls it how.
    pub identity: Identity,
}

/// What a cloud says of a public address. Each has its own way of saying that there is none: EC2
/// answers 404, GCE and OpenStack with nothing, Azure with an empty text in a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PublicAddress {
    /// No service that knows has answered.
    #[default]
    Unknown,
    /// The service knows of none. One may be on the interface all the same: OpenStack and Azure
    /// only speak of those that they map.
    None,
    /// One that leads to this guest alone, on its interface or mapped to it.
    Own(IpAddr),
    /// That of a load balancer, which passes on what its rules say.
    LoadBalancer(IpAddr),
}

/// What one service says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) public: PublicAddress,
    pub(super) instance_id: Option<String>,
}

impl Said {
    /// From texts as they come: what can't be an address or a name is passed over.
    pub(super) fn new(instance_id: Option<&str>, address: Option<&str>) -> Self {
        Self {
            public: own(address),
            instance_id: instance_id
                .map(str::trim)
                .filter(|id| is_id(id))
                .map(str::to_owned),
        }
    }
}

/// An address of this guest's own, or none; what is no address says nothing.
fn own(text: Option<&str>) -> PublicAddress {
    match text.map(str::trim) {
        None | Some("") => PublicAddress::None,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => PublicAddress::None,
            Ok(address) => PublicAddress::Own(address),
            Err(_) => PublicAddress::Unknown,
        },
    }
}

/// Reads an address.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.trim().parse().ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// Whether a text can be the name of a machine; it ends in logs and on terminals.
pub(super) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The names of this guest, by who said them: they need not agree with one another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity(BTreeMap<SourceName, String>);

impl Identity {
    /// Somebody says this name now.
    pub(in crate::metadata) fn note(&mut self, who: SourceName, id: String) {
        self.0.insert(who, id);
    }

    /// Whether one of them says something else than before, as on a clone.
    #[must_use]
    pub fn differs(&self, later: &Self) -> bool {
        let other =
            |(who, id): (&SourceName, &String)| later.0.get(who).is_some_and(|later| later != id);
        self.0.iter().any(other)
    }

    /// Whether one of them says the same as before.
    #[must_use]
    pub fn agrees(&self, later: &Self) -> bool {
        let same = |(who, id): (&SourceName, &String)| later.0.get(who) == Some(id);
        self.0.iter().any(same)
    }

    /// The name that goes before: local sources read it first.
    pub(super) fn name(&self) -> Option<String> {
        self.0.values().next().cloned()
    }
}
