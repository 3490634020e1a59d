//! GET and PUT with bounds: on the time, on the size, and on where they lead.

mod retry_after;

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};

use crate::config::{HttpUrl, shown};
use crate::metadata::reading::{LIMIT, Secret, SourceFault, append};
use crate::web;

/// How long a connection may take. The service is one hop away.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a whole exchange may take, the connection and the last byte of the body included.
const WHOLE: Duration = Duration::from_secs(5);

/// Names of headers and their values.
pub(super) type Headers<'a> = &'a [(&'a str, &'a str)];

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Page(Page),
    /// 204: the service has no document.
    NoContent,
    /// It has no such thing: 404.
    None,
    /// It has it no more, or not now: 410.
    Gone,
    /// 304, to a condition.
    Unchanged,
    /// 401: the token is not good.
    Unauthorized,
}

/// A body, and the headers that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) body: Secret,
    headers: HeaderMap,
}

impl Page {
    /// The value of a header that is plain text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as one line of text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default().trim()
    }
}

/// A client of the service at one address.
#[derive(Debug, Clone)]
pub(super) struct Http {
    base: HttpUrl,
}

impl Http {
    pub(super) fn new(base: &HttpUrl) -> Self {
        Self { base: base.clone() }
    }

    /// Whether the service has this URL.
    pub(super) fn is_at(&self, url: &HttpUrl) -> bool {
        self.base == *url
    }

    /// The address of the service.
    pub(super) fn base(&self) -> &str {
        self.base.as_str()
    }

    /// The URL of something there, as people may see it.
    pub(super) fn url(&self, path: &str) -> String {
        shown(&self.full(path)).into_owned()
    }

    /// The base alone is as a person wrote it: a slash at its end may matter there.
    fn full(&self, path: &str) -> String {
        match path {
            "" => self.base().to_owned(),
            path => format!("{}{path}", self.base().trim_end_matches('/')),
        }
    }

    pub(super) async fn get(
        &self,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Answer, SourceFault> {
        self.exchange(Method::GET, path, headers, WHOLE).await
    }

    /// [`Http::get`] of a service that answers when it has something to say.
    pub(super) async fn get_within(
        &self,
        limit: Duration,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Answer, SourceFault> {
        self.exchange(Method::GET, path, headers, limit).await
    }

    pub(super) async fn put(
        &self,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Answer, SourceFault> {
        self.exchange(Method::PUT, path, headers, WHOLE).await
    }

    /// [`Http::get`] of a service without tokens and conditions.
    pub(super) async fn page(
        &self,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Option<Page>, SourceFault> {
        let status = match self.get(path, headers).await? {
            Answer::Page(page) => return Ok(Some(page)),
            Answer::NoContent | Answer::None | Answer::Gone => return Ok(None),
            Answer::Unchanged => StatusCode::NOT_MODIFIED,
            Answer::Unauthorized => StatusCode::UNAUTHORIZED,
        };
        Err(self.unexpected(path, status.as_u16()))
    }

    /// The fault of a status that can't be.
    pub(super) fn unexpected(&self, path: &str, status: u16) -> SourceFault {
        SourceFault::Status {
            url: self.url(path),
            status,
            retry_after: None,
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: Headers<'_>,
        limit: Duration,
    ) -> Result<Answer, SourceFault> {
        let shown = self.url(path);
        let client = web::client(&self.base, CONNECT).map_err(|error| {
            let url = shown.clone();
            let uncertified = web::lacks_certificates(&self.base, &error);
            let problem = web::deepest(error);
            match uncertified {
                true => SourceFault::NoCertificates { url, problem },
                false => SourceFault::Unreachable { url, problem },
            }
        })?;
        let mut request = client.request(method, self.full(path)).timeout(limit);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let failed = |error: reqwest::Error| {
            let unreachable = error.is_connect();
            let (url, problem) = (shown.clone(), problem(error, limit));
            if unreachable {
                SourceFault::Unreachable { url, problem }
            } else {
                SourceFault::Unfinished { url, problem }
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => return Ok(Answer::NoContent),
            StatusCode::NOT_FOUND => return Ok(Answer::None),
            StatusCode::GONE => return Ok(Answer::Gone),
            StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
            StatusCode::UNAUTHORIZED => return Ok(Answer::Unauthorized),
            _ => return Err(refusal(shown, &response)),
        }
        if response.content_length().unwrap_or(0) > LIMIT as u64 {
            return Err(SourceFault::TooLarge { place: shown });
        }
        let mut body = Secret::default();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if !append(&mut body, &chunk, LIMIT) {
                return Err(SourceFault::TooLarge { place: shown });
            }
        }
        Ok(Answer::Page(Page {
            body,
            headers: std::mem::take(response.headers_mut()),
        }))
    }
}

/// The fault of a status that is no answer.
fn refusal(url: String, response: &Response) -> SourceFault {
    let header = |name| response.headers().get(name)?.to_str().ok();
    let status = response.status();
    match header(LOCATION) {
        Some(to) if status.is_redirection() => SourceFault::Redirected {
            url,
            to: shown(to).chars().take(200).collect(),
        },
        _ => SourceFault::Status {
            url,
            status: status.as_u16(),
            retry_after: header(RETRY_AFTER)
                .and_then(|value| retry_after::parse(value, header(DATE), SystemTime::now())),
        },
    }
}

fn problem(error: reqwest::Error, limit: Duration) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT } else { limit };
        return format!("no answer within {} s", limit.as_secs());
    }
    web::deepest(error)
}

#[cfg(test)]
mod tests;
