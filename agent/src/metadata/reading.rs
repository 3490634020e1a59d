//! What one look at one source yields.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

use super::document::{Carrier, Document, DocumentFault, Parsed, parse};
use crate::explain::Explain;

/// The most that is read from any one place, in bytes. A document has a few thousand.
pub const LIMIT: usize = 1 << 20;

/// Bytes that may hold a private key.
pub(super) type Secret = Zeroizing<Vec<u8>>;

/// Exactly one of five facts about a source.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// It has a document.
    Found(Arc<Document>),
    /// It answered: it has none.
    Absent,
    /// It has the place for one, and nothing in it.
    Empty(Blank),
    /// It has none, by an answer that it also gives when it has failed: a document that it had is
    /// not gone for that.
    Silent {
        /// What has failed then.
        fault: SourceFault,
        /// The place with nothing in it, if there is one.
        blank: Option<Blank>,
    },
    /// It did not answer, or what it has is wrong.
    Failed(SourceFault),
}

impl Reading {
    /// Reads `bytes` that were found at `place`.
    pub(super) fn of(place: &str, bytes: &[u8], carrier: Carrier) -> Self {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return match carrier {
                Carrier::Own => Self::Empty(Blank::at(place)),
                Carrier::Shared => Self::Absent,
            };
        }
        Self::parsed(place, parse(bytes, carrier))
    }

    /// The reading for what was parsed at `place`.
    pub(super) fn parsed(place: &str, parsed: Result<Parsed, DocumentFault>) -> Self {
        match parsed {
            Ok(Parsed::Document(document)) => Self::Found(Arc::new(document)),
            Ok(Parsed::Empty) => Self::Empty(Blank::at(place)),
            Ok(Parsed::Missing) => Self::Absent,
            Err(fault) => Self::Failed(SourceFault::Invalid {
                place: place.to_owned(),
                fault,
            }),
        }
    }
}

impl From<SourceFault> for Reading {
    fn from(fault: SourceFault) -> Self {
        Self::Failed(fault)
    }
}

/// A place for a document with nothing in it: as good as none, but not the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place} is there, but empty")]
pub struct Blank {
    place: String,
}

impl Blank {
    fn at(place: &str) -> Self {
        let place = place.to_owned();
        Self { place }
    }
}

impl Explain for Blank {
    fn code(&self) -> &'static str {
        "document-empty"
    }

    fn advice(&self) -> String {
        "Write the document there, or take the empty place away if no tunnel is wanted.".to_owned()
    }
}

/// Why a source has failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceFault {
    /// No connection to the service came about.
    #[error("{url} can't be reached: {problem}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The service took the connection and did not answer to the end.
    #[error("{url} did not finish its answer: {problem}")]
    Unfinished {
        /// What was asked for.
        url: String,
        /// What came instead.
        problem: String,
    },
    /// The service answered with an unexpected status.
    #[error("{url} answered with the HTTP status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// For how long the service wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The service points somewhere else; nobody went there.
    #[error("{url} leads to {to}, and redirects are not followed")]
    Redirected {
        /// What was asked for.
        url: String,
        /// Where it led.
        to: String,
    },
    /// There is more than any document has.
    #[error("{place} is larger than {LIMIT} bytes, and was not read to the end")]
    TooLarge {
        /// The file or the URL.
        place: String,
    },
    /// It is encoded, and not as it says.
    #[error("{place} can't be decoded: {problem}")]
    Undecodable {
        /// The file or the URL, and the part of it.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A service behind the metadata service has nothing, or can't be reached from there.
    #[error("{place} has nothing from the service `{service}`")]
    Silent {
        /// The URL.
        place: String,
        /// The service's name there.
        service: String,
    },
    /// What is there is not a document.
    #[error("{place}: {fault}")]
    Invalid {
        /// The file or the URL.
        place: String,
        /// What is wrong with it.
        #[source]
        fault: DocumentFault,
    },
    /// A local input can't be read.
    #[error("{place} can't be read: {problem}")]
    Unreadable {
        /// The file.
        place: String,
        /// What the system said.
        problem: String,
    },
}

impl SourceFault {
    /// Whether nothing at all is known of the service, as on a machine that has none.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// For how long the service wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Unreachable { .. }
            | Self::Unfinished { .. }
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
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
            Self::Unfinished { .. } => "Look at the log of the metadata service: it accepts \
                 connections and does not serve them."
                .to_owned(),
            Self::Status { status, .. } => status_advice(*status).to_owned(),
            Self::Redirected { .. } => "Whoever is there would be sent what is meant for the \
                 service, and could answer with a document. If it is right, put that address into \
                 [metadata] url or document_url."
                .to_owned(),
            Self::TooLarge { place } => {
                format!("Look at what is served at {place}: a document has a few thousand bytes.")
            }
            Self::Undecodable { .. } => {
                "Compare it with what was handed over: a carrier has cut or \
                 changed it. Plain cloud-config is the surest form."
                    .to_owned()
            }
            Self::Silent { service, .. } => format!(
                "OpenStack says the same when it can't reach that service: see nova's log. To take \
                 the document back, have {service} answer `null`."
            ),
            Self::Invalid { fault, .. } => fault.advice(),
            Self::Unreadable { place, .. } if place.starts_with("/dev/") => {
                "Check that it is ISO 9660 or FAT, and that vmagent-inputs.socket is running: \
                 `systemctl start vmagent-inputs.socket`."
                    .to_owned()
            }
            Self::Unreadable { place, .. } => format!(
                "Check with `ls -lL {place}` that it is a regular file; if only root may read it, \
                 vmagent-inputs.socket has to be running: `systemctl start vmagent-inputs.socket`."
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
            "The service is asked more often than it likes, most likely by other programs of this \
             machine too. It is left alone for as long as it says."
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

/// Appends `more` to `bytes`, and wipes what a larger buffer leaves behind.
///
/// False when that would be more than `limit` bytes; nothing is appended then.
pub(super) fn append(bytes: &mut Secret, more: &[u8], limit: usize) -> bool {
    let length = bytes.len() + more.len();
    if length > limit {
        return false;
    }
    if length > bytes.capacity() {
        let mut larger = Secret::new(Vec::with_capacity(length.next_power_of_two().max(8 << 10)));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(more);
    true
}
