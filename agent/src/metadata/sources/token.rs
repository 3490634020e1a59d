//! The dance of IMDSv2, which EC2 and Firecracker share: a token first, then everything with it.

use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::http::{Answer, Headers, Http, Page};
use crate::metadata::reading::SourceFault;

const TOKEN: &str = "/latest/api/token";

/// The longest that a service grants, in seconds.
const TTL: &str = "21600";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// What Firecracker calls them; its older versions know no other names.
const MMDS_TTL_HEADER: &str = "x-metadata-token-ttl-seconds";
const MMDS_TOKEN_HEADER: &str = "x-metadata-token";

/// A service with tokens, and the token as long as it is good.
#[derive(Debug)]
pub(super) struct Session {
    http: Http,
    token: Token,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    None,
    Given {
        text: Zeroizing<String>,
        /// When to ask for another: before the service stops taking it.
        until: Instant,
    },
    /// The service refused a token with this fault. It resembles EC2's and knows no tokens, as
    /// OpenStack's does.
    Refused(SourceFault),
}

impl Session {
    pub(super) fn new(http: Http) -> Self {
        Self {
            http,
            token: Token::None,
        }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Gets `path`; with a new token if the old one is about to end, or the service is tired of
    /// it.
    pub(super) async fn get(
        &mut self,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Option<Page>, SourceFault> {
        let mut fault = self.http.unexpected(path, 401);
        for _ in 0..2 {
            let spent = match &self.token {
                Token::None => true,
                Token::Given { until, .. } => *until <= Instant::now(),
                Token::Refused(_) => false,
            };
            if spent {
                self.token = self.request().await?;
            }
            let mut headers = headers.to_vec();
            if let Token::Given { text, .. } = &self.token {
                headers.push((TOKEN_HEADER, text.as_str()));
                headers.push((MMDS_TOKEN_HEADER, text.as_str()));
            }
            match self.http.get(path, &headers).await? {
                Answer::Page(page) => return Ok(Some(page)),
                Answer::NoContent | Answer::None | Answer::Gone => return Ok(None),
                Answer::Unchanged => return Err(self.http.unexpected(path, 304)),
                Answer::Unauthorized => {
                    // The service requires a token, so its refusal to give one is the fault.
                    if let Token::Refused(refusal) = std::mem::replace(&mut self.token, Token::None)
                    {
                        fault = refusal;
                    }
                }
            }
        }
        Err(fault)
    }

    fn refused(&self, status: u16) -> Token {
        Token::Refused(self.http.unexpected(TOKEN, status))
    }

    async fn request(&self) -> Result<Token, SourceFault> {
        // Counted from the question: the service can't have begun before.
        let asked = Instant::now();
        let headers = [(TTL_HEADER, TTL), (MMDS_TTL_HEADER, TTL)];
        let page = match self.http.put(TOKEN, &headers).await {
            Ok(Answer::Page(page)) => page,
            Ok(Answer::None) => return Ok(self.refused(404)),
            Ok(Answer::Unauthorized) => return Ok(self.refused(401)),
            Ok(Answer::Gone) => return Ok(self.refused(410)),
            Ok(Answer::NoContent) => return Ok(self.refused(204)),
            Ok(Answer::Unchanged) => return Ok(self.refused(304)),
            // EC2 answers 403 where the service is disabled, and 429 or 503 when it is busy.
            Err(fault @ SourceFault::Status { status, .. })
                if ![403, 429, 503].contains(&status) =>
            {
                return Ok(Token::Refused(fault));
            }
            Err(fault) => return Err(fault),
        };
        let text = page.text();
        // Goes into a header as it is.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let (url, problem) = (self.http.url(TOKEN), "it is not a token".to_owned());
            return Err(SourceFault::Unfinished { url, problem });
        }
        let granted = page.header(TTL_HEADER).or(page.header(MMDS_TTL_HEADER));
        let granted = granted.and_then(|seconds| seconds.trim().parse::<u32>().ok());
        let ttl = granted.map_or(Duration::from_secs(21600), |seconds| {
            Duration::from_secs(seconds.clamp(1, 21600).into())
        });
        Ok(Token::Given {
            text: Zeroizing::new(text.to_owned()),
            until: asked + ttl.mul_f64(0.9),
        })
    }
}
