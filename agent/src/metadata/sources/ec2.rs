//! EC2: user-data, by IMDSv2: a token first, then everything with the token.

use zeroize::Zeroizing;

use super::http::{Answer, Http};
use super::{Facts, is_id, public_address};
use crate::metadata::document::Carrier;
use crate::metadata::reading::{Reading, SourceFault};

const TOKEN: &str = "/latest/api/token";
const USER_DATA: &str = "/latest/user-data";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";

/// The longest that the service grants, in seconds.
const TTL: (&str, &str) = ("X-aws-ec2-metadata-token-ttl-seconds", "21600");
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";

/// How cloud-init tells what is not a cloud-config: a script, an archive, a template, a message.
/// Such user-data is for others, whatever words stand in it.
const FOR_OTHERS: [&str; 10] = [
    "#!",
    "#include",
    "#cloud-boothook",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#part-handler",
    "#upstart-job",
    "## template:",
    "content-type:",
    "mime-version:",
];

/// The token, as long as it is good.
#[derive(Debug, Default)]
pub(super) struct Session {
    token: Token,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Token {
    #[default]
    None,
    Given(Zeroizing<String>),
    /// A service that looks like EC2's and knows no tokens, such as OpenStack's.
    NotNeeded,
}

impl Session {
    pub(super) async fn read(&mut self, http: &Http) -> Reading {
        match self.get(http, USER_DATA).await {
            Ok(Some(body)) => user_data(&http.url(USER_DATA), &body),
            Ok(None) => Reading::Absent,
            Err(fault) => fault.into(),
        }
    }

    pub(super) async fn facts(&mut self, http: &Http) -> Result<Option<Facts>, SourceFault> {
        let Some(id) = self.get(http, INSTANCE_ID).await? else {
            return Ok(None);
        };
        let id = std::str::from_utf8(&id).map(str::trim).ok();
        let address = self.get(http, super::PUBLIC_IPV4).await?;
        Ok(Some(Facts {
            public_address: public_address(address.map_or(Answer::None, Answer::Body)),
            instance_id: id.filter(|id| is_id(id)).map(str::to_owned),
            ..Facts::default()
        }))
    }

    /// Gets `path`; with a new token if the service is tired of the old one.
    async fn get(
        &mut self,
        http: &Http,
        path: &str,
    ) -> Result<Option<super::super::reading::Secret>, SourceFault> {
        for _ in 0..2 {
            if self.token == Token::None {
                self.token = request(http).await?;
            }
            let header = match &self.token {
                Token::Given(token) => Some((TOKEN_HEADER, token.as_str())),
                Token::None | Token::NotNeeded => None,
            };
            match http.get(path, header).await? {
                Answer::Body(body) => return Ok(Some(body)),
                Answer::None => return Ok(None),
                Answer::Unauthorized => self.token = Token::None,
            }
        }
        let url = http.url(path);
        Err(SourceFault::Status { url, status: 401 })
    }
}

async fn request(http: &Http) -> Result<Token, SourceFault> {
    match http.put(TOKEN, TTL).await {
        Ok(Answer::Body(body)) => {
            let text = std::str::from_utf8(&body).unwrap_or_default().trim();
            // Goes into a header as it is.
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let (url, problem) = (http.url(TOKEN), "it is not a token".to_owned());
                return Err(SourceFault::Unfinished { url, problem });
            }
            Ok(Token::Given(Zeroizing::new(text.to_owned())))
        }
        Ok(Answer::None | Answer::Unauthorized) => Ok(Token::NotNeeded),
        Err(SourceFault::Status {
            status: 405 | 501, ..
        }) => Ok(Token::NotNeeded),
        Err(fault) => Err(fault),
    }
}

fn user_data(place: &str, body: &[u8]) -> Reading {
    let start = body[..body.len().min(64)]
        .trim_ascii_start()
        .to_ascii_lowercase();
    let for_others = FOR_OTHERS
        .iter()
        .any(|mark| start.starts_with(mark.as_bytes()));
    // cloud-init takes it compressed as well; we are not meant then.
    let compressed = body.starts_with(&[0x1f, 0x8b]);
    if for_others || compressed {
        return Reading::Absent;
    }
    Reading::of(place, body, Carrier::Shared)
}

#[cfg(test)]
mod tests;
