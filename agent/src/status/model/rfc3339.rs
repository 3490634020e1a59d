//! How a [`Timestamp`](super::Timestamp) is written: in UTC, to the second (RFC 3339).

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&humantime::format_rfc3339_seconds(*time))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
    humantime::parse_rfc3339(&String::deserialize(d)?).map_err(D::Error::custom)
}
