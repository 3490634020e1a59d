//! A config drive: what OpenStack serves over HTTP, on a disk with the label `config-2`.
//!
//! Known to cloud-init as well, which hands user-data on in its own way: that is read here only
//! where it does not run. What it makes nothing of is read in any case.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::facts::{PublicAddress, Said};
use super::files::{Files, Pulled};
use super::{Later, Round, Source, openstack};
use crate::metadata::reading::{Reading, Secret, SourceFault};
use crate::metadata::userdata;

const LABEL: &str = "config-2";

const VENDOR_DATA: &str = "openstack/latest/vendor_data2.json";
const USER_DATA: &str = "openstack/latest/user_data";
const META_DATA: &str = "openstack/latest/meta_data.json";

#[derive(Debug)]
pub(super) struct ConfigDrive {
    files: Arc<Files>,
    /// The name of this machine on the drive.
    instance_id: Option<String>,
}

impl ConfigDrive {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self {
            files,
            instance_id: None,
        }
    }

    async fn look(&mut self, pulled: &mut Pulled) -> Result<Reading, SourceFault> {
        if let Ok(name) = self.name(pulled).await {
            self.instance_id = name;
        }
        if let Some((place, bytes)) = self.file(VENDOR_DATA, pulled).await? {
            let found = openstack::vendor_data(&bytes).map(|(parsed, _)| parsed);
            let reading = Reading::parsed(&place, found);
            if reading != Reading::Absent {
                return Ok(reading);
            }
        }
        if self.files.is_for_cloud_init() {
            return Ok(Reading::Absent);
        }
        let user_data = self.file(USER_DATA, pulled).await?;
        Ok(user_data.map_or(Reading::Absent, |(place, bytes)| {
            userdata::read(&place, &bytes)
        }))
    }

    async fn name(&self, pulled: &mut Pulled) -> Result<Option<String>, SourceFault> {
        let Some((_, bytes)) = self.file(META_DATA, pulled).await? else {
            return Ok(None);
        };
        let meta_data: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Said::new(meta_data["uuid"].as_str(), None).instance_id)
    }

    async fn file(
        &self,
        path: &str,
        pulled: &mut Pulled,
    ) -> Result<Option<(String, Secret)>, SourceFault> {
        self.files.on_disk(LABEL, path, pulled).await
    }
}

impl Source for ConfigDrive {
    fn read<'a>(&'a mut self, round: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            self.look(&mut round.pulled)
                .await
                .unwrap_or_else(Reading::Failed)
        })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        // It is no service that knows addresses.
        let said = self.instance_id.clone().map(|id| Said {
            public: PublicAddress::Unknown,
            instance_id: Some(id),
        });
        Box::pin(async { Ok(said) })
    }

    fn watched(&self) -> Vec<PathBuf> {
        self.files.disks(LABEL)
    }
}
