//! Google Compute Engine: the attribute `vmagent` of the instance, or else of its project. The
//! service reports a change at once (cloud.google.com/compute/docs/metadata/querying-metadata).

mod hang;

use hang::Known;

use super::facts::Said;
use super::http::{Answer, Headers, Http};
use super::{Later, Round, Source};
use crate::metadata::document::Carrier;
use crate::metadata::reading::{Reading, SourceFault};

/// The paths of attributes: an attribute of the instance goes before the same one of its project.
const PLACES: [&str; 2] = [
    "/computeMetadata/v1/instance/attributes/",
    "/computeMetadata/v1/project/attributes/",
];
const NAME: &str = "vmagent";

const INSTANCE_ID: &str = "/computeMetadata/v1/instance/id";

/// Mapped to this guest, and never on the interface; empty where there is none.
const EXTERNAL_IP: &str =
    "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";

/// Whoever can't set a header, such as somebody's browser, gets nothing.
const FLAVOR: Headers<'_> = &[("metadata-flavor", "Google")];

#[derive(Debug)]
pub(super) struct Gce {
    http: Http,
    /// The results of the last read, one for each of [`PLACES`].
    known: [Known; 2],
}

impl Gce {
    pub(super) fn new(http: Http) -> Self {
        Self {
            http,
            known: Default::default(),
        }
    }

    async fn look(&mut self) -> Result<Reading, SourceFault> {
        let mut found: [Known; 2] = Default::default();
        for (place, known) in PLACES.iter().zip(&mut found) {
            let attribute = format!("{place}{NAME}");
            match self.http.get(&attribute, FLAVOR).await? {
                Answer::Page(page) => {
                    if let Some(etag) = page.header("etag") {
                        *known = Known::Version(etag.to_owned());
                    }
                    self.known = found;
                    let place = self.http.url(&attribute);
                    return Ok(Reading::of(&place, &page.body, Carrier::Own));
                }
                Answer::NoContent | Answer::None | Answer::Gone => {
                    *known = Known::Absent;
                }
                Answer::Unauthorized => return Err(self.http.unexpected(&attribute, 401)),
                Answer::Unchanged => return Err(self.http.unexpected(&attribute, 304)),
            }
        }
        self.known = found;
        Ok(Reading::Absent)
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
        hang::until_changed(&self.http, &self.known)
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.http)
    }
}

#[cfg(test)]
mod tests;
