//! Whether this guest is behind NAT: the verdict, the rule it follows from, and its inputs.
//!
//! ```text
//!  kernel ──── default routes, addresses ─┐
//!                                         ├─> Inputs ── verdict ── decision ── hold ──> the tunnel
//!  metadata ── public address ────────────┘             (all of them pure)
//! ```
//!
//! | what is known | verdict |
//! |---|---|
//! | the metadata names a public address for this guest, and it is on the interface | direct |
//! | the same, and it is not | one-to-one |
//! | a global IPv4 address is on the interface | direct |
//! | the metadata names a load balancer's address | unknown: it may lead to others |
//! | a private IPv4 address, and a global IPv6 one | nat: it is of use to IPv6 clients only |
//! | a global IPv6 address, and no IPv4 | direct |
//! | only addresses that can't be dialled from outside | nat |
//! | the same, and the metadata can't tell whether a public one is mapped to them | unknown |
//! | no default route, or no address there | unknown |
//!
//! *The interface* is the one that the default route leads to; of several, the one with the lowest
//! metric, for IPv4 and IPv6 by themselves: answers go out there, whatever came in elsewhere.

mod address;
pub mod hold;
pub mod routes;

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::SourceName;
use crate::metadata::document::When;
use crate::metadata::{Facts, PublicAddress};
use crate::status::model::{
    self, DefaultRoute, InterfaceAddress, NatInputs, NatVerdict, PublicKind, TunnelDecision,
};
use address::Reach;
use routes::Route;

/// What the verdict is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Addresses of the interfaces that count.
    pub addresses: BTreeSet<Address>,
    /// All default routes.
    pub routes: BTreeSet<Route>,
    /// What the metadata says.
    pub public: PublicAddress,
    /// Who said it; none while nobody has answered.
    pub public_source: Option<SourceName>,
}

/// An address and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The interface's name.
    pub interface: String,
}

impl Inputs {
    /// Asks the kernel; the rest is what the metadata says.
    ///
    /// What the kernel does not tell is left out: the verdict is then `unknown`.
    #[must_use]
    pub async fn read(facts: &Facts) -> Self {
        let routes = routes::read().await;
        Self {
            addresses: routes::addresses(&routes),
            routes,
            public: facts.public,
            public_source: facts.public_source,
        }
    }

    /// The first of these addresses that can be dialled from there.
    fn find(&self, wanted: impl Fn(&IpAddr, Reach) -> bool) -> Option<(&Address, IpAddr, Reach)> {
        let mut known = self.addresses.iter().map(|address| {
            let ip = address.ip.to_canonical();
            (address, ip, Reach::of(&ip))
        });
        known.find(|(_, ip, reach)| wanted(ip, *reach))
    }

    /// Who speaks for the metadata.
    fn who(&self) -> &'static str {
        self.public_source
            .map_or("the metadata", SourceName::as_str)
    }
}

/// Whether a tunnel is held: what the configuration says, else the document, else the verdict.
/// `document` is what the document says, if there is one that asks for a tunnel.
///
/// When in doubt it is: one tunnel too many costs little, one too few may be the last way in.
#[must_use]
pub fn decide(document: Option<When>, config: Option<When>, verdict: NatVerdict) -> TunnelDecision {
    let Some(document) = document else {
        return TunnelDecision::NotAsked;
    };
    match config.unwrap_or(document) {
        When::Always => TunnelDecision::Always,
        When::Never => TunnelDecision::Never,
        When::Auto => match verdict {
            NatVerdict::Nat | NatVerdict::Unknown => TunnelDecision::Needed,
            NatVerdict::Direct | NatVerdict::OneToOne => TunnelDecision::NotNeeded,
        },
    }
}

/// The verdict, and the rule that decided as a sentence.
#[must_use]
pub fn verdict(inputs: &Inputs) -> (NatVerdict, String) {
    named(inputs)
        .or_else(|| on_the_interface(inputs))
        .unwrap_or_else(|| unreachable(inputs))
}

/// By the public address that the metadata names, if it says it all.
fn named(inputs: &Inputs) -> Option<(NatVerdict, String)> {
    let PublicAddress::Own(public) = inputs.public else {
        return None;
    };
    let public = public.to_canonical();
    let private_v4 = inputs.find(|ip, reach| ip.is_ipv4() && reach != Reach::Public);
    // A private cloud may call an address public that is not. One of IPv6 is half the truth
    // where IPv4 clients find nobody.
    if Reach::of(&public) != Reach::Public || (public.is_ipv6() && private_v4.is_some()) {
        return None;
    }
    let who = inputs.who();
    if let Some((own, ..)) = inputs.find(|ip, _| *ip == public) {
        let rule = format!("{who} names {public}, which is on {}", own.interface);
        return Some((NatVerdict::Direct, rule));
    }
    let to = inputs.find(|ip, reach| ip.is_ipv4() == public.is_ipv4() && reach != Reach::LinkLocal);
    let to = to.map_or_else(
        || "and no interface has it".to_owned(),
        |(own, ip, _)| format!("which is mapped to {ip} on {}", own.interface),
    );
    Some((NatVerdict::OneToOne, format!("{who} names {public}, {to}")))
}

/// By a global address on the interface, as far as it leads.
fn on_the_interface(inputs: &Inputs) -> Option<(NatVerdict, String)> {
    if let Some((own, ip, _)) = inputs.find(|ip, reach| ip.is_ipv4() && reach == Reach::Public) {
        let rule = format!("{} has the global address {ip}", own.interface);
        return Some((NatVerdict::Direct, rule));
    }
    if let PublicAddress::LoadBalancer(public) = inputs.public
        && Reach::of(&public.to_canonical()) == Reach::Public
    {
        let rule = format!(
            "{} names {public}, but that is a load balancer's, which may lead to other machines",
            inputs.who()
        );
        return Some((NatVerdict::Unknown, rule));
    }
    let (six, v6, _) = inputs.find(|ip, reach| ip.is_ipv6() && reach == Reach::Public)?;
    Some(match inputs.find(|ip, _| ip.is_ipv4()) {
        Some((four, v4, reach)) => {
            let rule = format!(
                "{} has {v4}, {}; {v6} is global, but of use to IPv6 clients only",
                four.interface,
                reach.as_words()
            );
            (NatVerdict::Nat, rule)
        }
        None => {
            let rule = format!("{} has the global address {v6}, and no IPv4", six.interface);
            (NatVerdict::Direct, rule)
        }
    })
}

/// Nothing that is known can be dialled from outside.
fn unreachable(inputs: &Inputs) -> (NatVerdict, String) {
    let any_v4 = inputs.find(|ip, _| ip.is_ipv4());
    let known = any_v4
        .or_else(|| inputs.find(|_, reach| reach != Reach::LinkLocal))
        .or_else(|| inputs.find(|_, _| true));
    let Some((own, ip, reach)) = known else {
        let rule = match inputs.routes.first() {
            Some(route) => format!("{} has a default route, but no address", route.interface),
            None => "there is no default route".to_owned(),
        };
        return (NatVerdict::Unknown, rule);
    };
    let has = format!("{} has {ip}, {}", own.interface, reach.as_words());
    let who = inputs.who();
    match (inputs.public, inputs.public_source) {
        (PublicAddress::Unknown, Some(_)) => {
            let rule =
                format!("{has}, and {who} does not tell whether a public one is mapped to it");
            (NatVerdict::Unknown, rule)
        }
        (PublicAddress::Unknown, None) => (
            NatVerdict::Nat,
            format!("{has}, and no metadata names a public one"),
        ),
        (PublicAddress::None, _) => (
            NatVerdict::Nat,
            format!("{has}, and {who} has no public one"),
        ),
        (PublicAddress::Own(other) | PublicAddress::LoadBalancer(other), _) => {
            let other = other.to_canonical();
            let kind = Reach::of(&other).as_words();
            let rule = format!("{has}, and {other}, which {who} names, is {kind} as well");
            (NatVerdict::Nat, rule)
        }
    }
}

/// The public address behind a verdict that needs no tunnel: the one that the metadata names, or
/// else one of the interface's, of IPv4 before IPv6.
fn reached_at(inputs: &Inputs, verdict: NatVerdict) -> Option<IpAddr> {
    match verdict {
        NatVerdict::Nat | NatVerdict::Unknown => return None,
        NatVerdict::Direct | NatVerdict::OneToOne => {}
    }
    if let PublicAddress::Own(public) = inputs.public {
        let public = public.to_canonical();
        if Reach::of(&public) == Reach::Public {
            return Some(public);
        }
    }
    let public =
        |v4: bool| inputs.find(move |ip, reach| ip.is_ipv4() == v4 && reach == Reach::Public);
    public(true).or_else(|| public(false)).map(|(_, ip, _)| ip)
}

/// The slice of the status that shows all of it, but for the hold.
#[must_use]
pub fn show(
    inputs: &Inputs,
    verdict: NatVerdict,
    rule: &str,
    decision: TunnelDecision,
) -> model::Nat {
    let (public_kind, public) = match inputs.public {
        PublicAddress::Unknown => (PublicKind::Unknown, None),
        PublicAddress::None => (PublicKind::None, None),
        PublicAddress::Own(address) => (PublicKind::Own, Some(address)),
        PublicAddress::LoadBalancer(address) => (PublicKind::LoadBalancer, Some(address)),
    };
    let address = |own: &Address| InterfaceAddress {
        interface: own.interface.clone(),
        address: own.ip.to_string(),
    };
    let route = |route: &Route| DefaultRoute {
        family: route.family.as_str().to_owned(),
        interface: route.interface.clone(),
        metric: route.metric,
    };
    let reached_at = reached_at(inputs, verdict).map(|address| address.to_string());
    let inputs = NatInputs {
        addresses: inputs
            .addresses
            .iter()
            .map(|own| own.ip.to_string())
            .collect(),
        public_address: public.map(|address| address.to_string()),
        public_kind,
        public_source: inputs.public_source.map(|name| name.as_str().to_owned()),
        interfaces: inputs.addresses.iter().map(address).collect(),
        default_routes: inputs.routes.iter().map(route).collect(),
    };
    model::Nat {
        verdict,
        rule: rule.to_owned(),
        inputs,
        decision,
        held_until: None,
        address: reached_at,
        revision: 0,
        wanted: 0,
    }
}

#[cfg(test)]
mod tests;
