//! Why somebody could not be told.

use thiserror::Error;

use crate::explain::Explain;
use crate::web;

/// Why somebody could not be told. The addresses have no password and no query in them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ReportFault {
    /// No connection came about, or it broke.
    #[error("{url} can't be told how this VM is to be reached: {problem}")]
    Unreachable { url: String, problem: String },
    /// The URL is https, and this system has no CA certificates.
    #[error(
        "{url} can't be told how this VM is to be reached, since no server could be checked: {problem}"
    )]
    NoCertificates { url: String, problem: String },
    /// The receiver is in trouble.
    #[error("{url} answered a report with the HTTP status {status}")]
    Failed { url: String, status: u16 },
    /// The receiver does not want it.
    #[error("{url} refused a report with the HTTP status {status}")]
    Refused { url: String, status: u16 },
    /// There are no guest attributes to write to.
    #[error("{url} takes no guest attributes: HTTP status {status}")]
    NotOffered { url: String, status: u16 },
}

impl ReportFault {
    /// Whether it stays so until a person does something.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoCertificates { .. } | Self::Failed { .. } => false,
            Self::Refused { .. } | Self::NotOffered { .. } => true,
        }
    }
}

impl Explain for ReportFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "report-unreachable",
            Self::NoCertificates { .. } => "tls-no-certificates",
            Self::Failed { .. } => "report-failed",
            Self::Refused { .. } => "report-refused",
            Self::NotOffered { .. } => "report-not-offered",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "Check the route to it, and the URL ([report] url, or report.url of the document). \
                 This VM can be reached all the same."
            }
            Self::NoCertificates { .. } => web::NO_CERTIFICATES,
            Self::Failed { .. } => "Look at the receiver's log; it is told again later.",
            Self::Refused { .. } => {
                "Look at the receiver's log: it has to answer a POST of JSON with 2xx."
            }
            Self::NotOffered { .. } => {
                "Set enable-guest-attributes=TRUE in the metadata of the VM or its project, or \
                 [report] guest_attributes = \"never\"."
            }
        }
        .to_owned()
    }
}
