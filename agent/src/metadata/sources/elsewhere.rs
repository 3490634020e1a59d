//! The IPv6 addresses of the clouds' metadata services, for networks without IPv4.
//!
//! EC2 has a unique local address. OpenStack's neutron has a link-local address, which the agent
//! tries on each interface. The agent asks these addresses only where 169.254.169.254 can't be
//! reached, and only on those clouds: on other networks, any machine could answer.

use std::collections::BTreeSet;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::source::{Blueprint, Round, Source};
use crate::config::{HttpUrl, SourceName};
use crate::metadata::platform;
use crate::metadata::reading::{Reading, SourceFault};

/// docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
const EC2: &str = "http://[fd00:ec2::254]";

/// docs.openstack.org/nova/latest/user/metadata.html
const OPENSTACK: &str = "fe80::a9fe:a9fe";

/// The most interfaces that are tried: each may cost a connection's deadline.
const INTERFACES: usize = 8;

/// Which of the clouds with such an address this machine may run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clouds {
    pub(super) ec2: bool,
    pub(super) openstack: bool,
}

impl Clouds {
    /// Taken from the sources in the configuration, or else from signs of the platform.
    pub(super) fn of(blueprint: &Blueprint, named: Option<&[SourceName]>) -> Self {
        if blueprint.cloud.base() != HttpUrl::default().as_str() {
            let (ec2, openstack) = (false, false);
            return Self { ec2, openstack };
        }
        if let Some(names) = named {
            let has = |name| names.contains(&name);
            let (ec2, openstack) = (has(SourceName::Ec2), has(SourceName::Openstack));
            return Self { ec2, openstack };
        }
        let guess = platform::guess(blueprint.files.places());
        Self {
            ec2: guess.has_ec2(),
            openstack: guess.has_openstack(),
        }
    }

    /// The IPv6 URLs of this source's service.
    pub(super) fn urls(self, name: SourceName) -> Vec<HttpUrl> {
        let mut urls = Vec::new();
        // OpenStack's service also answers the requests of EC2's interface.
        if self.openstack && matches!(name, SourceName::Openstack | SourceName::Ec2) {
            let of_link = |interface| format!("http://[{OPENSTACK}%25{interface}]");
            urls.extend(interfaces().into_iter().map(of_link));
        }
        if self.ec2 && name == SourceName::Ec2 {
            urls.push(EC2.to_owned());
        }
        let parsed = urls.iter().map(|url| HttpUrl::parse(url));
        parsed.filter_map(Result::ok).collect()
    }
}

/// The first source that answers at one of these URLs, and its answer. A source with a document
/// goes before the others.
pub(super) async fn ask(
    blueprint: &Blueprint,
    name: SourceName,
    urls: &[HttpUrl],
    round: &mut Round,
) -> Option<(Box<dyn Source>, Reading)> {
    let mut first = None;
    for url in urls {
        let mut source = blueprint.make_at(name, url)?;
        match source.read(round).await {
            Reading::Failed(SourceFault::Unreachable { .. }) => {}
            reading @ Reading::Found(_) => return Some((source, reading)),
            reading @ (Reading::Absent
            | Reading::Empty(_)
            | Reading::Silent { .. }
            | Reading::Failed(_)) => first = first.or(Some((source, reading))),
        }
    }
    first
}

/// The interfaces with a link-local address.
fn interfaces() -> BTreeSet<String> {
    let Ok(addresses) = getifaddrs() else {
        return BTreeSet::new();
    };
    let of_link = addresses.filter(|address| {
        let up = address.flags.contains(InterfaceFlags::IFF_UP);
        let ip = address
            .address
            .as_ref()
            .and_then(|address| address.as_sockaddr_in6());
        up && ip.is_some_and(|ip| ip.ip().is_unicast_link_local())
    });
    let names = of_link.map(|address| address.interface_name);
    names.take(INTERFACES).collect()
}

#[cfg(test)]
mod tests;
