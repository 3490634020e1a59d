//! OpenStack: `vendor_data2.json`, where nova puts what a service of the operator's says of this
//! very instance (`DynamicJSON`), one key for each service.

use serde_json::Value;

use super::http::{Answer, Http};
use super::{Facts, is_id, public_address};
use crate::metadata::document::{Carrier, DocumentFault, Parsed, find, tree};
use crate::metadata::reading::{Reading, SourceFault};

const VENDOR_DATA: &str = "/openstack/latest/vendor_data2.json";
const META_DATA: &str = "/openstack/latest/meta_data.json";

pub(super) async fn read(http: &Http) -> Reading {
    match http.get(VENDOR_DATA, None).await {
        Ok(Answer::Body(body)) => Reading::parsed(&http.url(VENDOR_DATA), vendor_data(&body)),
        Ok(Answer::None) => Reading::Absent,
        Ok(Answer::Unauthorized) => refused(http).into(),
        Err(fault) => fault.into(),
    }
}

/// The document under our key, or else in what any service said.
fn vendor_data(body: &[u8]) -> Result<Parsed, DocumentFault> {
    let tree = tree(body)?;
    let Value::Object(services) = &tree.0 else {
        let problem = "found something that is not a JSON object".to_owned();
        return Err(DocumentFault::Syntax(problem));
    };
    let whole = find(&tree.0, Carrier::Shared)?;
    if whole != Parsed::Missing {
        return Ok(whole);
    }
    for said in services.values() {
        let parsed = find(said, Carrier::Shared)?;
        if parsed != Parsed::Missing {
            return Ok(parsed);
        }
    }
    Ok(Parsed::Missing)
}

pub(super) async fn facts(http: &Http) -> Result<Option<Facts>, SourceFault> {
    let Answer::Body(body) = http.get(META_DATA, None).await? else {
        return Ok(None);
    };
    let meta_data: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = meta_data["uuid"].as_str().filter(|id| is_id(id));
    Ok(Some(Facts {
        public_address: public_address(http.get(super::PUBLIC_IPV4, None).await?),
        instance_id: id.map(str::to_owned),
        ..Facts::default()
    }))
}

fn refused(http: &Http) -> SourceFault {
    SourceFault::Status {
        url: http.url(VENDOR_DATA),
        status: 401,
    }
}
