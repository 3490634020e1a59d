//! GET and PUT with bounds: on the time, on the size, and on where they lead.

use std::error::Error;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};

use crate::metadata::reading::{LIMIT, Secret, SourceFault, append};

/// How long a connection may take. The service is one hop away.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a whole exchange may take, the connection and the last byte of the body included.
const WHOLE: Duration = Duration::from_secs(5);

/// What a service said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200, and its body.
    Body(Secret),
    /// It has no such thing: 404 or 410.
    None,
    /// 401: the token is not good.
    Unauthorized,
}

/// A client of the service at one address. What TLS needs is set up for each request: it is much,
/// and rounds are minutes apart.
#[derive(Debug)]
pub(super) struct Http {
    base: String,
}

impl Http {
    /// A client for `base`, an address without a slash at the end.
    pub(super) fn new(base: String) -> Self {
        Self { base }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) async fn get(
        &self,
        path: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, SourceFault> {
        self.exchange(Method::GET, path, header).await
    }

    pub(super) async fn put(
        &self,
        path: &str,
        header: (&str, &str),
    ) -> Result<Answer, SourceFault> {
        self.exchange(Method::PUT, path, Some(header)).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, SourceFault> {
        let url = self.url(path);
        let client = client().map_err(|error| SourceFault::Unreachable {
            url: url.clone(),
            problem: causes(&error),
        })?;
        let mut request = client.request(method, &url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.answer(request, url).await
    }

    async fn answer(&self, request: RequestBuilder, url: String) -> Result<Answer, SourceFault> {
        let failed = |error: reqwest::Error| {
            let (url, problem) = (url.clone(), causes(&error));
            if error.is_connect() {
                SourceFault::Unreachable { url, problem }
            } else {
                SourceFault::Unfinished { url, problem }
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Answer::None),
            StatusCode::UNAUTHORIZED => return Ok(Answer::Unauthorized),
            other => {
                let status = other.as_u16();
                return Err(SourceFault::Status { url, status });
            }
        }
        let announced = announced(&response);
        let mut body = Secret::default();
        if announced > LIMIT as u64 {
            return Err(SourceFault::TooLarge { place: url });
        }
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if !append(&mut body, &chunk, LIMIT) {
                return Err(SourceFault::TooLarge { place: url });
            }
        }
        Ok(Answer::Body(body))
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        // A proxy from the environment would see the private key.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        // Nothing is kept open in between.
        .pool_max_idle_per_host(0)
        .build()
}

fn announced(response: &Response) -> u64 {
    response.content_length().unwrap_or(0)
}

/// The causes of an error, joined; the first alone says only that something went wrong.
fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT } else { WHOLE };
        return format!("no answer within {} s", limit.as_secs());
    }
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests;
