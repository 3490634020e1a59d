//! The exchange itself, with bounds on its time and on where it leads.

use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;

use super::fault::ReportFault;
use super::message::Message;
use crate::config::{HttpUrl, shown};
use crate::status::model::ReportTarget;
use crate::web;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a whole exchange may take.
const WHOLE: Duration = Duration::from_secs(10);

/// Where Google Compute Engine takes host keys, by their kind: `gcloud compute ssh` reads them
/// there.
const ATTRIBUTES: &str = "/computeMetadata/v1/instance/guest-attributes/hostkeys";

/// A client of one receiver.
#[derive(Debug)]
pub(super) struct Sender {
    target: ReportTarget,
    to: HttpUrl,
}

impl Sender {
    pub(super) fn new(target: ReportTarget, to: &HttpUrl) -> Self {
        let to = to.clone();
        Self { target, to }
    }

    /// Its address, as everybody may see it.
    pub(super) fn shown(&self) -> String {
        shown(&self.address()).into_owned()
    }

    fn address(&self) -> String {
        let to = self.to.as_str();
        match self.target {
            ReportTarget::GuestAttributes => format!("{}{ATTRIBUTES}", to.trim_end_matches('/')),
            ReportTarget::Url => to.to_owned(),
        }
    }

    /// Tells it.
    pub(super) async fn send(&self, message: &Message) -> Result<(), ReportFault> {
        let client = web::client(&self.to, CONNECT);
        let client = client.map_err(|error| {
            let url = self.shown();
            let uncertified = web::lacks_certificates(&self.to, &error);
            let problem = web::deepest(error);
            match uncertified {
                true => ReportFault::NoCertificates { url, problem },
                false => ReportFault::Unreachable { url, problem },
            }
        })?;
        match message {
            Message::Whole(_) => {
                let body = serde_json::to_vec(message).unwrap_or_default();
                let request = client
                    .post(self.address())
                    .header(CONTENT_TYPE, "application/json");
                self.exchange(request.body(body)).await
            }
            Message::HostKeys(keys) => {
                for key in keys {
                    let (kind, base64) = key.split_once(' ').unwrap_or((key, ""));
                    let request = client
                        .put(format!("{}/{kind}", self.address()))
                        .header("Metadata-Flavor", "Google");
                    self.exchange(request.body(base64.to_owned())).await?;
                }
                Ok(())
            }
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(), ReportFault> {
        // What it says beside the status is not read.
        let response = request.timeout(WHOLE).send().await;
        let response = response.map_err(|error| self.unreachable(problem(error)))?;
        let (url, status) = (self.shown(), response.status().as_u16());
        match (status, self.target) {
            (200..=299, _) => Ok(()),
            (403 | 404, ReportTarget::GuestAttributes) => {
                Err(ReportFault::NotOffered { url, status })
            }
            // Too slow, too early, too much: for another time.
            (408 | 425 | 429, _) => Err(ReportFault::Failed { url, status }),
            (300..=499, _) => Err(ReportFault::Refused { url, status }),
            _ => Err(ReportFault::Failed { url, status }),
        }
    }

    fn unreachable(&self, problem: String) -> ReportFault {
        let url = self.shown();
        ReportFault::Unreachable { url, problem }
    }
}

fn problem(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    web::deepest(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        let shown = |target, url| Sender::new(target, &HttpUrl::parse(url).unwrap()).shown();
        let own = shown(
            ReportTarget::Url,
            "http://example.org/vms?token=secret#secret",
        );
        assert_eq!(own, "http://example.org/vms");
        let attributes = shown(ReportTarget::GuestAttributes, "http://169.254.169.254");
        assert_eq!(attributes, format!("http://169.254.169.254{ATTRIBUTES}"));
    }
}
