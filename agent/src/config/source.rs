//! The closed set of sources, by their names.

use serde::{Deserialize, Serialize};

/// A place that may hold the tunnel document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceName {
    /// A systemd credential, `vmagent.tunnel`.
    Credential,
    /// A file of its own.
    File,
    /// The `vmagent:` key of the merged cloud-config.
    CloudInit,
    /// A disk with the label `config-2`.
    ConfigDrive,
    /// A NoCloud seed, where cloud-init does not run.
    Nocloud,
    /// A URL that the configuration names.
    Url,
    /// OpenStack's `vendor_data2.json`.
    Openstack,
    /// EC2's user-data, by IMDSv2.
    Ec2,
    /// Firecracker's tree of JSON, by version 2 of its service.
    Mmds,
    /// Google Compute Engine's attribute `vmagent`.
    Gce,
    /// Azure's user data.
    Azure,
    /// Hetzner Cloud's user data.
    Hetzner,
    /// DigitalOcean's user data and vendor data.
    Digitalocean,
}

impl SourceName {
    /// All of them, in their default order: what costs nothing first, then what a person named.
    pub const ALL: [Self; 13] = [
        Self::Credential,
        Self::File,
        Self::CloudInit,
        Self::ConfigDrive,
        Self::Nocloud,
        Self::Url,
        Self::Openstack,
        Self::Ec2,
        Self::Mmds,
        Self::Gce,
        Self::Azure,
        Self::Hetzner,
        Self::Digitalocean,
    ];

    /// Its name in the configuration and the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::File => "file",
            Self::CloudInit => "cloud-init",
            Self::ConfigDrive => "config-drive",
            Self::Nocloud => "nocloud",
            Self::Url => "url",
            Self::Openstack => "openstack",
            Self::Ec2 => "ec2",
            Self::Mmds => "mmds",
            Self::Gce => "gce",
            Self::Azure => "azure",
            Self::Hetzner => "hetzner",
            Self::Digitalocean => "digitalocean",
        }
    }
}
