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

impl Source for Ec2 {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            match self.0.get(USER_DATA, &[]).await {
                Ok(Some(page)) => userdata::read(&self.0.http().url(USER_DATA), &page.body),
                Ok(None) => Reading::Absent,
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
