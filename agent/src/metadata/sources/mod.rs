//! The places that may hold a document, and how each is read.

mod ec2;
mod files;
mod http;
mod openstack;

use std::net::IpAddr;

use super::reading::{Reading, SourceFault};
use crate::config::{Config, SourceName};

pub use files::Places;

/// What the metadata says of this guest beside the document. Best effort.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The address under which others reach this guest, where the cloud names one.
    pub public_address: Option<IpAddr>,
    /// The cloud's name for this guest.
    pub instance_id: Option<String>,
    /// Who calls it how.
    pub identity: Identity,
}

/// The names of this guest, by who said them: they need not agree with one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    cloud_init: Option<String>,
    service: Option<String>,
}

impl Identity {
    /// Whether one of them says something else than before, as on a clone.
    #[must_use]
    pub fn differs(&self, later: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.is_some() && other.is_some() && one != other
        };
        differ(&self.cloud_init, &later.cloud_init) || differ(&self.service, &later.service)
    }
}

/// All sources of one configuration, with what they remember between two rounds.
#[derive(Debug)]
pub(super) struct Sources {
    order: Vec<SourceName>,
    files: files::Files,
    http: http::Http,
    ec2: ec2::Session,
}

impl Sources {
    pub(super) fn new(config: &Config, places: Places) -> Self {
        Self {
            order: config.sources.clone(),
            files: files::Files::new(places, config.file.clone()),
            http: http::Http::new(config.url.clone()),
            ec2: ec2::Session::default(),
        }
    }

    /// Files whose appearance, change or removal calls for a new round.
    pub(super) fn watched(&self) -> Vec<std::path::PathBuf> {
        self.files.watched(&self.order)
    }

    /// Asks one source after the other, up to the first that has a document.
    ///
    /// May be dropped at any point: what is remembered changes only with a whole answer.
    pub(super) async fn walk(&mut self) -> Vec<(SourceName, Reading)> {
        let mut pulled = None;
        let mut unreachable: Option<SourceFault> = None;
        let mut readings = Vec::new();
        for &name in &self.order {
            // They share one address: what kept the first from it keeps the others from it.
            let reading = match (&unreachable, is_http(name)) {
                (Some(fault), true) => Reading::Failed(fault.clone()),
                _ => match name {
                    SourceName::Credential => self.files.credential(),
                    SourceName::File => self.files.file(&mut pulled).await,
                    SourceName::CloudInit => self.files.cloud_init(&mut pulled).await,
                    SourceName::Openstack => openstack::read(&self.http).await,
                    SourceName::Ec2 => self.ec2.read(&self.http).await,
                },
            };
            if let Reading::Failed(fault) = &reading
                && fault.is_unreachable()
            {
                unreachable = Some(fault.clone());
            }
            let found = matches!(reading, Reading::Found(_));
            readings.push((name, reading));
            if found {
                break;
            }
        }
        readings
    }

    /// Forgets what it remembers of services: they may be others now.
    pub(super) fn forget(&mut self) {
        self.ec2 = ec2::Session::default();
    }

    /// Asks what is known of this guest; `before` stands for a service that does not answer.
    pub(super) async fn facts(&mut self, before: Facts) -> Facts {
        let mut facts = before;
        if let Some(id) = self.files.instance_id() {
            facts.identity.cloud_init = Some(id);
        }
        for &name in &self.order {
            let answer = match name {
                SourceName::Openstack => openstack::facts(&self.http).await,
                SourceName::Ec2 => self.ec2.facts(&self.http).await,
                SourceName::Credential | SourceName::File | SourceName::CloudInit => continue,
            };
            match answer {
                Ok(Some(found)) => {
                    facts.public_address = found.public_address;
                    facts.identity.service = found.instance_id.or(facts.identity.service);
                    break;
                }
                Ok(None) => facts.public_address = None,
                Err(_) => break,
            }
        }
        let Identity {
            cloud_init,
            service,
        } = &facts.identity;
        facts.instance_id = cloud_init.clone().or_else(|| service.clone());
        facts
    }
}

fn is_http(name: SourceName) -> bool {
    match name {
        SourceName::Openstack | SourceName::Ec2 => true,
        SourceName::Credential | SourceName::File | SourceName::CloudInit => false,
    }
}

/// Where both kinds of service name the address; 404 or nothing where there is none.
const PUBLIC_IPV4: &str = "/latest/meta-data/public-ipv4";

fn public_address(answer: http::Answer) -> Option<IpAddr> {
    let http::Answer::Body(body) = answer else {
        return None;
    };
    let address: IpAddr = std::str::from_utf8(&body).ok()?.trim().parse().ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// Whether a text can be the name of a machine; it ends in logs and on terminals.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
