//! Why a source has failed, and the advice.

use std::time::Duration;

use thiserror::Error;

use super::{Blank, LIMIT};
use crate::explain::Explain;
use crate::metadata::document::DocumentFault;
use crate::web;

/// Why a source has failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceFault {
    /// No connection to the service was made.
    #[error("{url} can't be reached: {problem}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The system's error.
        problem: String,
    },
    /// The URL is https, and this system has no CA certificates.
    #[error("{url} can't be asked, since no server could be checked: {problem}")]
    NoCertificates {
        /// The URL.
        url: String,
        /// The library's error.
        problem: String,
    },
    /// The service accepted the connection, but did not finish its answer.
    #[error("{url} did not finish its answer: {problem}")]
    Unfinished {
        /// The URL.
        url: String,
        /// The error of the connection or of the answer.
        problem: String,
    },
    /// The service answered with an unexpected status.
    #[error("{url} answered with the HTTP status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// The delay in the service's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The service redirects to another URL, which is not requested.
    #[error("{url} leads to {to}, and redirects are not followed")]
    Redirected {
        /// The URL.
        url: String,
        /// The URL that it redirects to.
        to: String,
    },
    /// The content is larger than any document.
    #[error("{place} is larger than {LIMIT} bytes, and was not read to the end")]
    TooLarge {
        /// The file or the URL.
        place: String,
    },
    /// The content can't be decoded by the encoding that it names.
    #[error("{place} can't be decoded: {problem}")]
    Undecodable {
        /// The file or the URL, and the part of it.
        place: String,
        /// The decoder's error.
        problem: String,
    },
    /// The place for a document is empty, and had a document before.
    #[error(transparent)]
    Blank(Blank),
    /// A service behind the metadata service has no document, or the metadata service can't reach
    /// it.
    #[error("{place} has nothing from the service `{service}`")]
    Silent {
        /// The URL.
        place: String,
        /// The service's name in the metadata.
        service: String,
    },
    /// The content is no valid document.
    #[error("{place}: {fault}")]
    Invalid {
        /// The file or the URL.
        place: String,
        /// The mistake in the document.
        #[source]
        fault: DocumentFault,
    },
    /// A local input can't be read.
    #[error("{place} can't be read: {problem}")]
    Unreadable {
        /// The file.
        place: String,
        /// The system's error.
        problem: String,
    },
}

impl SourceFault {
    /// Whether nothing is known of the service, as on a machine without one.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The delay that the service asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Unreachable { .. }
            | Self::NoCertificates { .. }
            | Self::Unfinished { .. }
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
            | Self::Blank(_)
            | Self::Silent { .. }
            | Self::Invalid { .. }
            | Self::Undecodable { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

impl Explain for SourceFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "metadata-unreachable",
            Self::NoCertificates { .. } => "tls-no-certificates",
            Self::Unfinished { .. } => "metadata-unfinished",
            Self::Status { status, .. } => match status {
                401 | 403 => "metadata-forbidden",
                429 => "metadata-throttled",
                500..=599 => "metadata-server-error",
                _ => "metadata-http",
            },
            Self::Redirected { .. } => "metadata-redirected",
            Self::TooLarge { .. } => "metadata-too-large",
            Self::Undecodable { .. } => "metadata-undecodable",
            Self::Blank(blank) => blank.code(),
            Self::Silent { .. } => "metadata-silent",
            Self::Invalid { fault, .. } => fault.code(),
            Self::Unreadable { .. } => "input-unreadable",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreachable { .. } => "Where there is no metadata service this is normal: set \
                 [metadata] sources to those that there are. Where there is one, check the route \
                 to it and [metadata] url."
                .to_owned(),
            Self::NoCertificates { .. } => web::NO_CERTIFICATES.to_owned(),
            Self::Unfinished { .. } => "Look at the log of the metadata service: it accepts \
                 connections and does not serve them."
                .to_owned(),
            Self::Status { status, .. } => status_advice(*status).to_owned(),
            Self::Redirected { .. } => "The server at that URL would get requests for the \
                 metadata service, and could answer with a document. If the URL is right, put it \
                 into [metadata] url or document_url."
                .to_owned(),
            Self::TooLarge { place } => {
                format!("Look at what is at {place}: a document has a few thousand bytes.")
            }
            Self::Undecodable { .. } => {
                "Compare it with what was handed over: a carrier has cut or \
                 changed it. Plain cloud-config is the surest form."
                    .to_owned()
            }
            Self::Blank(_) => "The last document stays, since a failure can leave an empty page \
                 too. Write the document there. To take it back, remove it, or write `null`."
                .to_owned(),
            Self::Silent { service, .. } => format!(
                "OpenStack says the same when it can't reach that service: see nova's log. To take \
                 the document back, have {service} answer `null`."
            ),
            Self::Invalid { fault, .. } => fault.advice(),
            Self::Unreadable { place, .. } if place.starts_with("/dev/") => {
                "Check that it is ISO 9660 or FAT, and that vmagent-inputs.socket is running: \
                 `systemctl restart vmagent-inputs.socket`."
                    .to_owned()
            }
            Self::Unreadable { place, .. } => format!(
                "Check with `ls -lL {place}` that it is a regular file; if only root may read it, \
                 vmagent-inputs.socket has to be running: `systemctl restart vmagent-inputs.socket`."
            ),
        }
    }
}

fn status_advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "The service is there and refuses this machine: see whether the cloud has it switched \
             off for this machine (EC2: the metadata options; GCE: the project's settings), and \
             whether a proxy or a container network stands in between."
        }
        429 => {
            "The service gets too many requests, probably from other programs of this machine too. \
             The agent waits for as long as the service asks."
        }
        500..=599 => {
            "The service has a fault of its own: look at its log, or the status page of the cloud. \
             It is asked again by itself."
        }
        _ => {
            "Look at the log of the metadata service; if it is not of this kind, leave this source \
             out of [metadata] sources."
        }
    }
}
