//! Hetzner Cloud: user data as it was handed in (docs.hetzner.cloud, "Server metadata").

use serde_json::Value;

use super::facts::Said;
use super::http::Http;
use super::{Later, Round, Source};
use crate::metadata::document::tree;
use crate::metadata::reading::{Reading, SourceFault};
use crate::metadata::userdata;

const USER_DATA: &str = "/hetzner/v1/userdata";

/// In YAML. Its `public-ipv4` is on the interface; empty where the machine has only private ones.
const META_DATA: &str = "/hetzner/v1/metadata";

#[derive(Debug)]
pub(super) struct Hetzner(pub(super) Http);

impl Source for Hetzner {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            match self.0.page(USER_DATA, &[]).await {
                Ok(Some(page)) => {
                    let place = self.0.url(USER_DATA);
                    userdata::read(&place, &page.body).or_nothing(&place, &page.body)
                }
                // User data is fixed when the server is made, so an earlier document can't be gone.
                Ok(None) => Reading::hollow(self.0.unexpected(USER_DATA, 404)),
                Err(fault) => fault.into(),
            }
        })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let page = self.0.page(META_DATA, &[]).await?;
            let Some(tree) = page.and_then(|page| tree(&page.body).ok()) else {
                return Ok(None);
            };
            // A number, and sometimes a text.
            let id = match &tree.0["instance-id"] {
                Value::Number(id) => Some(id.to_string()),
                Value::String(id) => Some(id.clone()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            };
            Ok(Some(Said::new(
                id.as_deref(),
                tree.0["public-ipv4"].as_str(),
            )))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests;
