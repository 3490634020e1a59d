//! DigitalOcean: user data, or else vendor data, of a Droplet
//! (docs.digitalocean.com/reference/api/metadata-api).

use serde_json::Value;

use super::facts::Said;
use super::http::Http;
use super::{Later, Round, Source};
use crate::metadata::document::{DocumentFault, tree};
use crate::metadata::reading::{Blank, Reading, SourceFault};
use crate::metadata::userdata;

const ALL: &str = "/metadata/v1.json";

/// The name of the Droplet, which every answer contains.
const ID: &str = "droplet_id";

/// The user's goes over the vendor's, as with cloud-init.
const CARRIERS: [&str; 2] = ["user_data", "vendor_data"];

#[derive(Debug)]
pub(super) struct Digitalocean(pub(super) Http);

impl Digitalocean {
    fn find(&self, body: &[u8]) -> Reading {
        let place = self.0.url(ALL);
        // May hold the document, and is wiped.
        let droplet = match tree(body) {
            Ok(tree) if tree.0.is_object() => tree,
            Ok(_) => return Reading::parsed(&place, Err(DocumentFault::no_object())),
            Err(fault) => return Reading::parsed(&place, Err(fault)),
        };
        let carried = CARRIERS.iter().filter_map(|key| {
            let text = droplet.0[key].as_str()?;
            Some(userdata::read(
                &format!("{key} of {place}"),
                text.as_bytes(),
            ))
        });
        let mut ours = carried.filter(|reading| *reading != Reading::Absent);
        ours.next().unwrap_or_else(|| match droplet.0.get(ID) {
            Some(_) => Reading::Absent,
            None => Reading::hollow(SourceFault::Blank(Blank::at(&place))),
        })
    }
}

impl Source for Digitalocean {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            match self.0.page(ALL, &[]).await {
                Ok(Some(page)) => self.find(&page.body),
                // Every Droplet has this page.
                Ok(None) => Reading::hollow(self.0.unexpected(ALL, 404)),
                Err(fault) => fault.into(),
            }
        })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let page = self.0.page(ALL, &[]).await?;
            let Some(droplet) = page.and_then(|page| tree(&page.body).ok()) else {
                return Ok(None);
            };
            let id = droplet.0[ID].as_u64().map(|id| id.to_string());
            // On the interface; a Droplet without a public one has no such list.
            let address = droplet.0.pointer("/interfaces/public/0/ipv4/ip_address");
            Ok(Some(Said::new(
                id.as_deref(),
                address.and_then(Value::as_str),
            )))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests;
