//! A URL of a person's own (`[metadata] document_url`), which holds the document and nothing else.
//!
//! It is asked for what is newer than the last that was read (RFC 9110 section 13.1.2), so a
//! document that stays the same costs its server next to nothing.
//!
//! The statuses 204, 404 and 410 take the document back, and so does the document `null`. An empty
//! page does not ([`Reading::Silent`]): a failed script or reverse proxy sends one too.

use super::http::{Answer, Headers, Http};
use super::{Later, Round, Source};
use crate::metadata::document::Carrier;
use crate::metadata::reading::{Reading, SourceFault};

#[derive(Debug)]
pub(super) struct Url {
    http: Http,
    last: Option<Last>,
}

/// What was read the last time, and by which name the server knows it.
#[derive(Debug)]
struct Last {
    etag: String,
    reading: Reading,
}

impl Url {
    pub(super) fn new(http: Http) -> Self {
        Self { http, last: None }
    }

    async fn look(&mut self) -> Result<Reading, SourceFault> {
        let condition = self
            .last
            .as_ref()
            .map(|last| [("if-none-match", &*last.etag)]);
        let condition: Headers<'_> = condition.as_ref().map_or(&[], |header| header);
        let page = match (self.http.get("", condition).await?, &self.last) {
            (Answer::Page(page), _) => page,
            (Answer::Unchanged, Some(last)) => return Ok(last.reading.clone()),
            (Answer::Unchanged, None) => return Err(self.http.unexpected("", 304)),
            (Answer::Unauthorized, _) => return Err(self.http.unexpected("", 401)),
            (Answer::NoContent | Answer::None | Answer::Gone, _) => {
                self.last = None;
                return Ok(Reading::Absent);
            }
        };
        let reading = Reading::of(&self.http.url(""), &page.body, Carrier::Own);
        self.last = page.header("etag").map(|etag| Last {
            etag: etag.to_owned(),
            reading: reading.clone(),
        });
        Ok(reading)
    }
}

impl Source for Url {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async { self.look().await.unwrap_or_else(Reading::Failed) })
    }

    fn service(&self) -> Option<&Http> {
        Some(&self.http)
    }
}

#[cfg(test)]
mod tests;
