//! OpenStack: `vendor_data2.json`, where nova puts what a service of the operator's says of this
//! very instance (`DynamicJSON`), one key for each service.
//!
//! What nova (34.0.0) says while something has failed looks like an answer: an empty object in the
//! place of a service that it can't reach or that has failed, and 404 for everything to a machine
//! that it does not find. Neither takes a document back ([`Reading::Silent`]).

use serde_json::{Map, Value};

use super::facts::Said;
use super::http::{Answer, Http};
use super::{Later, Round, Source};
use crate::metadata::document::{Carrier, DocumentFault, KEY, Parsed, find, tree};
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
                Ok(said(self.http.url(VENDOR_DATA), &page.body))
            }
            Answer::NoContent => Ok(self.nothing(204)),
            Answer::None => Ok(self.nothing(404)),
            Answer::Gone => Ok(self.nothing(410)),
            // It asks for a token, as EC2's and Firecracker's do: this is no OpenStack.
            Answer::Unauthorized if !self.known => Ok(Reading::Absent),
            Answer::Unauthorized => Err(self.http.unexpected(VENDOR_DATA, 401)),
            Answer::Unchanged => Err(self.http.unexpected(VENDOR_DATA, 304)),
        }
    }

    fn nothing(&self, status: u16) -> Reading {
        Reading::hollow(self.http.unexpected(VENDOR_DATA, status))
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

fn said(place: String, body: &[u8]) -> Reading {
    let (parsed, silent) = match vendor_data(body) {
        Ok((parsed, silent)) => (Ok(parsed), silent),
        Err(fault) => (Err(fault), None),
    };
    let reading = Reading::parsed(&place, parsed);
    let Some(service) = silent else {
        return reading;
    };
    let blank = match reading {
        Reading::Absent => None,
        Reading::Empty(blank) => Some(blank),
        Reading::Silent { blank, .. } => blank,
        Reading::Found(_) | Reading::Failed(_) => return reading,
    };
    let fault = SourceFault::Silent { place, service };
    Reading::Silent { fault, blank }
}

/// The document under our key, or else in what any service said; and the name of a service that
/// said nothing. Where there is one with our name, the others don't matter.
pub(super) fn vendor_data(body: &[u8]) -> Result<(Parsed, Option<String>), DocumentFault> {
    let tree = tree(body)?;
    let Value::Object(services) = &tree.0 else {
        return Err(DocumentFault::no_object());
    };
    let ours = services.contains_key(KEY);
    let silent = services.iter().find(|(name, said)| {
        // What nova reads from a file is under `static`, empty where there is none.
        let counts = if ours {
            *name == KEY
        } else {
            *name != "static"
        };
        counts && said.as_object().is_some_and(Map::is_empty)
    });
    let silent = silent.map(|(name, _)| name.clone());
    let whole = find(&tree.0, Carrier::Shared)?;
    if whole != Parsed::Missing {
        return Ok((whole, silent));
    }
    for said in services.values() {
        let parsed = find(said, Carrier::Shared)?;
        if parsed != Parsed::Missing {
            return Ok((parsed, silent));
        }
    }
    Ok((Parsed::Missing, silent))
}

#[cfg(test)]
mod tests;
