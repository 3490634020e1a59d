//! Firecracker's microVM Metadata Service, version 2: a tree of JSON that the operator makes up
//! (docs/mmds/mmds-user-guide.md there), asked for as a whole.
//!
//! The document may stand under a key `vmagent`, at the top or in one of the places that EC2 has.

use serde_json::Value;

use super::facts::{PublicAddress, Said};
use super::http::{Headers, Http};
use super::token::Session;
use super::{Later, Round, Source};
use crate::metadata::document::{Carrier, Parsed, find, tree};
use crate::metadata::reading::{Blank, Reading, SourceFault};
use crate::metadata::tree::Tree;
use crate::metadata::userdata;

const ALL: &str = "/";
const META_DATA: &str = "/latest/meta-data";
const USER_DATA: &str = "/latest/user-data";

/// Mappings that may have our key, as JSON pointers (RFC 6901).
const CARRIERS: [&str; 4] = ["", "/latest", META_DATA, USER_DATA];

/// Without it the answer is a list of names, as EC2's is.
const AS_JSON: Headers<'_> = &[("accept", "application/json")];

#[derive(Debug)]
pub(super) struct Mmds(Session);

impl Mmds {
    pub(super) fn new(http: Http) -> Self {
        Self(Session::new(http))
    }

    /// The whole tree; none where the answer is something else, as from other services.
    async fn tree(&mut self) -> Result<Option<Tree>, SourceFault> {
        let page = self.0.get(ALL, AS_JSON).await?;
        let tree = page.and_then(|page| tree(&page.body).ok());
        Ok(tree.filter(|tree| tree.0.is_object()))
    }

    fn find(&self, tree: &Value) -> Reading {
        for at in CARRIERS {
            let place = self.0.http().url(at);
            let parsed = match tree.pointer(at) {
                Some(value) => find(value, Carrier::Shared),
                None => Ok(Parsed::Missing),
            };
            if parsed != Ok(Parsed::Missing) {
                return Reading::parsed(&place, parsed);
            }
        }
        match tree.pointer(USER_DATA).and_then(Value::as_str) {
            Some(text) => userdata::read(&self.0.http().url(USER_DATA), text.as_bytes()),
            None => Reading::Absent,
        }
    }
}

impl Source for Mmds {
    fn read<'a>(&'a mut self, _: &'a mut Round) -> Later<'a, Reading> {
        Box::pin(async {
            match self.tree().await {
                // An empty tree means that the owner has not set it yet, or not again after a
                // restore.
                Ok(Some(tree)) if tree.0.as_object().is_some_and(|tree| !tree.is_empty()) => {
                    self.find(&tree.0)
                }
                Ok(_) => Reading::hollow(SourceFault::Blank(Blank::at(&self.0.http().url(ALL)))),
                Err(fault) => fault.into(),
            }
        })
    }

    fn facts(&mut self) -> Later<'_, Result<Option<Said>, SourceFault>> {
        Box::pin(async {
            let tree = self.tree().await?;
            let meta_data = tree.as_ref().and_then(|tree| tree.0.pointer(META_DATA));
            Ok(meta_data.map(|entries| {
                let text = |name| entries.get(name).and_then(Value::as_str);
                let mut said = Said::new(text("instance-id"), text("public-ipv4"));
                // Nobody has to fill it in.
                if said.public == PublicAddress::None {
                    said.public = PublicAddress::Unknown;
                }
                said
            }))
        })
    }

    fn service(&self) -> Option<&Http> {
        Some(self.0.http())
    }
}

#[cfg(test)]
mod tests;
