//! Which cloud this machine runs in, so that only services are asked that it can have.
//!
//! The firmware says it (DMI, as `dmidecode` shows it), and cloud-init once it knows
//! (`/run/cloud-init/cloud-id`); the strings are those by which cloud-init tells them apart. Where
//! both speak, what either allows is asked. Where neither is understood, everything is asked that
//! may be there without a sign: to leave out too much could cost the last way in.

use std::collections::BTreeSet;
use std::fmt;

use super::content::{Content, read_bounded};
use super::sources::Places;
use crate::config::SourceName;

const DMI: &str = "/sys/class/dmi/id";
const CLOUD_ID: &str = "/run/cloud-init/cloud-id";

/// A cloud with a service of a kind that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Platform {
    Ec2,
    Openstack,
    Gce,
    Azure,
    Hetzner,
    Digitalocean,
}

/// Signs in the firmware: the file, how its text begins, and whose it is.
const SIGNS: [(&str, &str, Platform); 18] = [
    ("sys_vendor", "Amazon EC2", Platform::Ec2),
    ("bios_vendor", "Amazon EC2", Platform::Ec2),
    // Xen's instances; the text has Xen's own version before it.
    ("bios_version", "*.amazon", Platform::Ec2),
    ("product_name", "OpenStack Nova", Platform::Openstack),
    ("product_name", "OpenStack Compute", Platform::Openstack),
    ("chassis_asset_tag", "OpenStack Nova", Platform::Openstack),
    (
        "chassis_asset_tag",
        "OpenStack Compute",
        Platform::Openstack,
    ),
    ("chassis_asset_tag", "OpenTelekomCloud", Platform::Openstack),
    ("chassis_asset_tag", "SAP CCloud VM", Platform::Openstack),
    ("chassis_asset_tag", "HUAWEICLOUD", Platform::Openstack),
    (
        "chassis_asset_tag",
        "Samsung Cloud Platform",
        Platform::Openstack,
    ),
    ("product_name", "Google Compute Engine", Platform::Gce),
    ("bios_vendor", "Google", Platform::Gce),
    // On Azure alone; its vendor and product are those of every Hyper-V.
    (
        "chassis_asset_tag",
        "7783-7084-3265-9085-8269-3286-77",
        Platform::Azure,
    ),
    ("sys_vendor", "Hetzner", Platform::Hetzner),
    ("bios_vendor", "Hetzner", Platform::Hetzner),
    ("sys_vendor", "DigitalOcean", Platform::Digitalocean),
    ("bios_vendor", "DigitalOcean", Platform::Digitalocean),
];

impl Platform {
    const ALL: [Self; 6] = [
        Self::Ec2,
        Self::Openstack,
        Self::Gce,
        Self::Azure,
        Self::Hetzner,
        Self::Digitalocean,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Openstack => "OpenStack",
            Self::Gce => "Google Compute Engine",
            Self::Azure => "Azure",
            Self::Hetzner => "Hetzner Cloud",
            Self::Digitalocean => "DigitalOcean",
        }
    }

    /// The services that it has.
    fn services(self) -> &'static [SourceName] {
        match self {
            Self::Ec2 => &[SourceName::Ec2],
            // Nova's own service answers in EC2's place too.
            Self::Openstack => &[SourceName::Openstack, SourceName::Ec2],
            Self::Gce => &[SourceName::Gce],
            Self::Azure => &[SourceName::Azure],
            Self::Hetzner => &[SourceName::Hetzner],
            Self::Digitalocean => &[SourceName::Digitalocean],
        }
    }

    /// By the first word of what cloud-init calls it; a region may follow, as in `aws-gov`.
    fn of_cloud_id(text: &str) -> Option<Self> {
        match text.split('-').next().unwrap_or_default() {
            "aws" | "ec2" => Some(Self::Ec2),
            "openstack" => Some(Self::Openstack),
            "gce" => Some(Self::Gce),
            "azure" => Some(Self::Azure),
            "hetzner" => Some(Self::Hetzner),
            "digitalocean" => Some(Self::Digitalocean),
            _ => None,
        }
    }
}

/// The services that may be there without a sign: private clouds and small hypervisors.
const WITHOUT_A_SIGN: [SourceName; 3] = [SourceName::Openstack, SourceName::Ec2, SourceName::Mmds];

/// What this machine may be. Nothing is not known not to be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Guess(BTreeSet<Platform>);

impl Guess {
    /// Why a source can't have anything on this machine; none if it can.
    pub(super) fn excludes(&self, name: SourceName) -> Option<String> {
        let has = |platform: &Platform| platform.services().contains(&name);
        let possible = if self.0.is_empty() {
            WITHOUT_A_SIGN.contains(&name)
        } else {
            self.0.iter().any(has)
        };
        let of_a_cloud = WITHOUT_A_SIGN.contains(&name) || Platform::ALL.iter().any(has);
        (of_a_cloud && !possible).then(|| self.to_string())
    }
}

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|platform| platform.as_str()).collect();
        if names.is_empty() {
            return f.write_str("no sign of a cloud that has it");
        }
        write!(f, "this is {}", names.join(" or "))
    }
}

impl Guess {
    /// Whether there is a sign of EC2.
    pub(super) fn has_ec2(&self) -> bool {
        self.0.contains(&Platform::Ec2)
    }

    /// Whether there is a sign of OpenStack.
    pub(super) fn has_openstack(&self) -> bool {
        self.0.contains(&Platform::Openstack)
    }

    /// Whether there is a sign of Google Compute Engine.
    pub(super) fn has_google(&self) -> bool {
        self.0.contains(&Platform::Gce)
    }
}

/// Looks for signs.
pub(super) fn guess(places: &Places) -> Guess {
    let sign = |(file, start, platform): &(&str, &str, Platform)| {
        let text = line(places, &format!("{DMI}/{file}"))?;
        let found = match start.strip_prefix('*') {
            Some(end) => text.ends_with(end),
            None => text.starts_with(start),
        };
        found.then_some(*platform)
    };
    let mut platforms: BTreeSet<_> = SIGNS.iter().filter_map(sign).collect();
    let by_cloud_init = line(places, CLOUD_ID).and_then(|text| Platform::of_cloud_id(&text));
    platforms.extend(by_cloud_init);
    Guess(platforms)
}

fn line(places: &Places, path: &str) -> Option<String> {
    match read_bounded(&places.at(path)).ok()? {
        Content::Bytes(bytes) => Some(String::from_utf8_lossy(bytes.trim_ascii()).into_owned()),
        Content::Missing | Content::Denied => None,
    }
}

#[cfg(test)]
mod tests;
