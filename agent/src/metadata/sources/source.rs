//! What a source is, and how each is made.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::facts::Said;
use super::files::{self, Files};
use super::http::Http;
use super::{azure, config_drive, digitalocean, ec2, gce, hetzner, mmds, nocloud, openstack, url};
use crate::config::{HttpUrl, SourceName};
use crate::metadata::reading::{Reading, SourceFault};

/// An answer that takes its time.
pub(super) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place that may hold a document.
///
/// Every answer may be dropped before it is there: what a source remembers changes only with a
/// whole one.
pub(super) trait Source: fmt::Debug + Send {
    /// Looks whether it has a document.
    fn read<'a>(&'a mut self, round: &'a mut Round) -> Later<'a, Reading>;

    /// What it says of this guest; none if it is no service that says such things.
    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async { Ok(None) })
    }

    /// Ends once there is something else to read than the last time; none where it can't tell.
    fn change(&self) -> Option<Later<'static, ()>> {
        None
    }

    /// Files whose appearance, change or removal calls for a new round.
    fn watched(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The service that it asks, if it is one over HTTP.
    fn service(&self) -> Option<&Http> {
        None
    }
}

/// What the sources of one round share.
#[derive(Default)]
pub(super) struct Round {
    pub(super) pulled: files::Pulled,
}

/// From which the sources are made, also anew.
#[derive(Debug)]
pub(super) struct Blueprint {
    pub(super) files: Arc<Files>,
    pub(super) cloud: Http,
    pub(super) document: Option<Http>,
}

impl Blueprint {
    /// A source that remembers nothing; none where it needs a setting that there is not.
    pub(super) fn make(&self, name: SourceName) -> Option<Box<dyn Source>> {
        self.make_of(name, self.cloud.clone())
    }

    /// [`Blueprint::make`], with the cloud's service at another address.
    pub(super) fn make_at(&self, name: SourceName, cloud: &HttpUrl) -> Option<Box<dyn Source>> {
        self.make_of(name, Http::new(cloud))
    }

    fn make_of(&self, name: SourceName, cloud: Http) -> Option<Box<dyn Source>> {
        let files = Arc::clone(&self.files);
        Some(match name {
            SourceName::Credential => Box::new(files::Credential(files)),
            SourceName::File => Box::new(files::File(files)),
            SourceName::CloudInit => Box::new(files::CloudInit(files)),
            SourceName::ConfigDrive => Box::new(config_drive::ConfigDrive::new(files)),
            SourceName::Nocloud => Box::new(nocloud::Nocloud::new(files)),
            SourceName::Url => Box::new(url::Url::new(self.document.clone()?)),
            SourceName::Openstack => Box::new(openstack::Openstack::new(cloud)),
            SourceName::Ec2 => Box::new(ec2::Ec2::new(cloud)),
            SourceName::Mmds => Box::new(mmds::Mmds::new(cloud)),
            SourceName::Gce => Box::new(gce::Gce::new(cloud)),
            SourceName::Azure => Box::new(azure::Azure(cloud)),
            SourceName::Hetzner => Box::new(hetzner::Hetzner(cloud)),
            SourceName::Digitalocean => Box::new(digitalocean::Digitalocean(cloud)),
        })
    }
}
