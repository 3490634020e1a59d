//! Google Compute Engine: the attribute `vmagent` of the instance, and word at once when it changes
//! (cloud.google.com/compute/docs/metadata/querying-metadata).

mod hang;

use hang::Known;

use super::facts::Said;
use super::http::{Answer, Headers, Http};
use super::{Later, Round, Source};
use crate::metadata::document::Carrier;
use crate::metadata::reading::{Reading, SourceFault};

const ATTRIBUTE: &str = "/computeMetadata/v1/instance/attributes/vmagent";
const INSTANCE_ID: &str = "/computeMetadata/v1/instance/id";

/// Mapped to this guest, and never on the interface; empty where there is none.
const EXTERNAL_IP: &str =
    "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";

/// Whoever can't set a header, such as somebody's browser, gets nothing.
const FLAVOR: Headers<'_> = &[("metadata-flavor", "Google")];

#[derive(Debug)]
pub(super) struct Gce {
    http: Http,
    known: Known,
}

impl Gce {
    pub(super) fn new(http: Http) -> Self {
        Self {
            http,
            known: Known::Nothing,
        }
    }

    async fn look(&mut self) -> Result<Reading, SourceFault> {
        match self.http.get(ATTRIBUTE, FLAVOR).await? {
            Answer::Page(page) => {
                self.known = match page.header("etag") {
                    Some(etag) => Known::Version(etag.to_owned()),
                    None => Known::Nothing,
                };
                let place = self.http.url(ATTRIBUTE);
                Ok(Reading::of(&place, &page.body, Carrier::Own))
            }
            Answer::None | Answer::Gone => {
                self.known = Known::Absent;
                Ok(Reading::Absent)
            }
            Answer::Unauthorized => Err(self.http.unexpected(ATTRIBUTE, 401)),
            Answer::Unchanged => Err(self.http.unexpected(ATTRIBUTE, 304)),
        }
    }
}

impl Source for Gce {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async { self.look().await.unwrap_or_else(Reading::Failed) })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let Some(id) = self.http.page(INSTANCE_ID, FLAVOR).await? else {
                return Ok(None);
            };
            let address = self.http.page(EXTERNAL_IP, FLAVOR).await?;
            let address = address.as_ref().map(|page| page.text());
            Ok(Some(Said::new(Some(id.text()), address)))
        })
    }

    fn change(&self) -> Option<Later<'static, ()>> {
        hang::until_changed(self.http.clone(), self.known.clone())
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.http)
    }
}

#[cfg(test)]
mod tests;
