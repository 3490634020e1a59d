//! OpenStack: `vendor_data2.json`, where nova puts what a service of the operator's says of this
//! very instance (`DynamicJSON`), one key for each service.

use serde_json::Value;

use super::facts::Said;
use super::http::{Answer, Http};
use super::{Later, Round, Source};
use crate::metadata::document::{Carrier, DocumentFault, Parsed, find, tree};
use crate::metadata::reading::{Reading, SourceFault};

const VENDOR_DATA: &str = "/openstack/latest/vendor_data2.json";
const META_DATA: &str = "/openstack/latest/meta_data.json";

/// A floating IP; nothing where there is none.
const PUBLIC_IPV4: &str = "/latest/meta-data/public-ipv4";

#[derive(Debug)]
pub(super) struct Openstack {
    http: Http,
    /// It has answered as OpenStack's does.
    known: bool,
}

impl Openstack {
    pub(super) fn new(http: Http) -> Self {
        Self { http, known: false }
    }

    async fn look(&mut self) -> Result<Reading, SourceFault> {
        match self.http.get(VENDOR_DATA, &[]).await? {
            Answer::Page(page) => {
                self.known = true;
                let place = self.http.url(VENDOR_DATA);
                Ok(Reading::parsed(&place, vendor_data(&page.body)))
            }
            Answer::None | Answer::Gone => Ok(Reading::Absent),
            // It asks for a token, as EC2's and Firecracker's do: this is no OpenStack.
            Answer::Unauthorized if !self.known => Ok(Reading::Absent),
            Answer::Unauthorized => Err(self.http.unexpected(VENDOR_DATA, 401)),
            Answer::Unchanged => Err(self.http.unexpected(VENDOR_DATA, 304)),
        }
    }
}

impl Source for Openstack {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async { self.look().await.unwrap_or_else(Reading::Failed) })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let Answer::Page(page) = self.http.get(META_DATA, &[]).await? else {
                return Ok(None);
            };
            let Ok(meta_data) = serde_json::from_slice::<Value>(&page.body) else {
                return Ok(None);
            };
            let address = self.http.page(PUBLIC_IPV4, &[]).await?;
            let address = address.as_ref().map(|page| page.text());
            Ok(Some(Said::new(meta_data["uuid"].as_str(), address)))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.http)
    }
}

/// The document under our key, or else in what any service said.
pub(super) fn vendor_data(body: &[u8]) -> Result<Parsed, DocumentFault> {
    let tree = tree(body)?;
    let Value::Object(services) = &tree.0 else {
        return Err(DocumentFault::no_object());
    };
    let whole = find(&tree.0, Carrier::Shared)?;
    if whole != Parsed::Missing {
        return Ok(whole);
    }
    for said in services.values() {
        let parsed = find(said, Carrier::Shared)?;
        if parsed != Parsed::Missing {
            return Ok(parsed);
        }
    }
    Ok(Parsed::Missing)
}

#[cfg(test)]
mod tests;
