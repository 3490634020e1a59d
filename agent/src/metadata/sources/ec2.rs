//! EC2: user-data, by IMDSv2.

use super::facts::Said;
use super::http::Http;
use super::token::Session;
use super::{Later, Round, Source};
use crate::metadata::reading::{Reading, SourceFault};
use crate::metadata::userdata;

const USER_DATA: &str = "/latest/user-data";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";

/// 404 where there is none.
const PUBLIC_IPV4: &str = "/latest/meta-data/public-ipv4";

#[derive(Debug)]
pub(super) struct Ec2(Session);

impl Ec2 {
    pub(super) fn new(http: Http) -> Self {
        Self(Session::new(http))
    }
}

impl Ec2 {
    /// 404 means that there is no user-data, if the service knows this machine. OpenStack's nova
    /// answers 404 to every request of a machine that it does not find.
    async fn none(&mut self) -> Result<Reading, SourceFault> {
        Ok(match self.0.get(INSTANCE_ID, &[]).await? {
            Some(_) => Reading::Absent,
            None => Reading::hollow(self.0.http().unexpected(USER_DATA, 404)),
        })
    }
}

impl Source for Ec2 {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            match self.0.get(USER_DATA, &[]).await {
                Ok(Some(page)) => {
                    let place = self.0.http().url(USER_DATA);
                    userdata::read(&place, &page.body).or_nothing(&place, &page.body)
                }
                Ok(None) => self.none().await.unwrap_or_else(Reading::Failed),
                Err(fault) => fault.into(),
            }
        })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let Some(id) = self.0.get(INSTANCE_ID, &[]).await? else {
                return Ok(None);
            };
            let address = self.0.get(PUBLIC_IPV4, &[]).await?;
            let address = address.as_ref().map(|page| page.text());
            Ok(Some(Said::new(Some(id.text()), address)))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(self.0.http())
    }
}

#[cfg(test)]
mod tests;
