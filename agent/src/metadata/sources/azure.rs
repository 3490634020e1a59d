//! Azure: the user data of a machine, by the Instance Metadata Service
//! (learn.microsoft.com/azure/virtual-machines/instance-metadata-service).

use serde_json::Value;

use super::facts::{self, PublicAddress, Said};
use super::http::{Answer, Headers, Http, Page};
use super::{Later, Round, Source};
use crate::metadata::reading::{Reading, SourceFault};
use crate::metadata::userdata;

/// In base64, as whoever made the machine handed it in; empty where there is none.
const USER_DATA: &str = "/metadata/instance/compute/userData?api-version=2021-02-01&format=text";
const INSTANCE: &str = "/metadata/instance?api-version=2021-02-01";

/// What the instance does not say of addresses of the Standard SKU.
const LOAD_BALANCER: &str = "/metadata/loadbalancer?api-version=2020-10-01";

/// Whoever can't set a header, such as somebody's browser, gets nothing.
const METADATA: Headers<'_> = &[("metadata", "true")];

#[derive(Debug)]
pub(super) struct Azure(pub(super) Http);

impl Azure {
    async fn page(&self, path: &str) -> Result<Option<Page>, SourceFault> {
        match self.0.get(path, METADATA).await? {
            Answer::Page(page) => Ok(Some(page)),
            Answer::NoContent | Answer::None => Ok(None),
            // Its word for a service that is being renewed: within 70 s it is back.
            Answer::Gone => Err(self.0.unexpected(path, 410)),
            Answer::Unauthorized => Err(self.0.unexpected(path, 401)),
            Answer::Unchanged => Err(self.0.unexpected(path, 304)),
        }
    }

    async fn look(&self) -> Result<Reading, SourceFault> {
        // Every machine has this page. An empty page means that there is no user data.
        let Some(page) = self.page(USER_DATA).await? else {
            return Ok(Reading::hollow(self.0.unexpected(USER_DATA, 404)));
        };
        Ok(userdata::read(&self.0.url(USER_DATA), &page.body))
    }

    async fn public(&self, instance: &Value) -> Result<PublicAddress, SourceFault> {
        let interfaces = instance.pointer("/network/interface");
        let named = items(interfaces)
            .flat_map(|interface| items(interface.pointer("/ipv4/ipAddress")))
            .find_map(|entry| text(entry, "publicIpAddress"));
        if let Some(address) = named {
            return Ok(PublicAddress::Own(address));
        }
        let Some(page) = self.page(LOAD_BALANCER).await? else {
            return Ok(PublicAddress::None);
        };
        let Ok(balancer) = serde_json::from_slice::<Value>(&page.body) else {
            return Ok(PublicAddress::Unknown);
        };
        let first = |list: &str, key: &str| {
            let list = balancer.pointer("/loadbalancer")?.get(list);
            items(list).find_map(|entry| text(entry, key))
        };
        // Outbound rules are for what this guest dials: nobody comes in by them.
        let own = first("publicIpAddresses", "frontendIpAddress").map(PublicAddress::Own);
        let shared = || first("inboundRules", "frontendIpAddress").map(PublicAddress::LoadBalancer);
        Ok(own.or_else(shared).unwrap_or(PublicAddress::None))
    }
}

impl Source for Azure {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async { self.look().await.unwrap_or_else(Reading::Failed) })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let Some(page) = self.page(INSTANCE).await? else {
                return Ok(None);
            };
            let Ok(instance) = serde_json::from_slice::<Value>(&page.body) else {
                return Ok(None);
            };
            let id = instance.pointer("/compute/vmId").and_then(Value::as_str);
            Ok(Some(Said {
                public: self.public(&instance).await?,
                ..Said::new(id, None)
            }))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.0)
    }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

fn text(entry: &Value, key: &str) -> Option<std::net::IpAddr> {
    facts::address(entry.get(key)?.as_str()?)
}

#[cfg(test)]
mod tests;
