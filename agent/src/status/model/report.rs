//! What the status says of reports to others.

use serde::{Deserialize, Serialize};

use super::{Fault, Timestamp};

/// One of those who are told how this guest is to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// See [`ReportTarget`].
    pub to: ReportTarget,
    /// Where that is, without a password or a query.
    pub url: String,
    /// See [`ReportState`].
    pub state: ReportState,
    /// When it was last told something.
    pub delivered_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Why it does not know what is true now.
    pub fault: Option<Fault>,
}

/// Those who are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportTarget {
    /// The guest attributes of Google Compute Engine: the host keys.
    GuestAttributes,
    /// `[report] url`: all of it.
    Url,
}

/// What it has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportState {
    /// Nothing yet, or not what is true now; it is about to be.
    Pending,
    /// What is true now.
    Delivered,
    /// The last attempt failed; it is repeated.
    Failed,
}
