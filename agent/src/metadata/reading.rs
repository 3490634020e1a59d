//! What one look at one source yields.

mod fault;

use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use super::document::{Carrier, Document, DocumentFault, Parsed, find, parse, tree};
use super::tree::note_nulls;
use crate::explain::Explain;

pub use fault::SourceFault;

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
    /// The place for a document holds `null`: there is none.
    Empty(Blank),
    /// The answer has no document, but a failure can cause such an answer too, for example an empty
    /// page. An earlier document stays in force.
    Silent {
        /// The fault to report while an earlier document stays in force.
        fault: SourceFault,
        /// The empty place, if there is one.
        blank: Option<Blank>,
    },
    /// It did not answer, or what it has is wrong.
    Failed(SourceFault),
}

impl Reading {
    /// Reads `bytes` that were found at `place`.
    pub(super) fn of(place: &str, bytes: &[u8], carrier: Carrier) -> Self {
        if is_blank(bytes) {
            return match carrier {
                Carrier::Own => Self::nothing(place),
                Carrier::Shared => Self::Absent,
            };
        }
        Self::parsed(place, parse(bytes, carrier))
    }

    /// Reads a merge of cloud-init, which has `null` where the user wrote a key without a value.
    pub(super) fn of_merge(place: &str, bytes: &[u8]) -> Self {
        let Ok(mut merge) = tree(bytes) else {
            return Self::of(place, bytes, Carrier::Shared);
        };
        note_nulls(&mut merge.0);
        Self::parsed(place, find(&merge.0, Carrier::Shared))
    }

    /// The reading of an empty place. A full disk, a template without its value or a broken server
    /// can cause it.
    pub(super) fn nothing(place: &str) -> Self {
        let blank = Blank::at(place);
        let fault = SourceFault::Blank(blank.clone());
        let blank = Some(blank);
        Self::Silent { fault, blank }
    }

    /// This reading of `bytes`, or [`Reading::Silent`] if it is absent because the page is empty.
    pub(super) fn or_nothing(self, place: &str, bytes: &[u8]) -> Self {
        if self == Self::Absent && is_blank(bytes) {
            return Self::hollow(SourceFault::Blank(Blank::at(place)));
        }
        self
    }

    /// The reading of an answer without a document that `fault` can cause too.
    pub(super) fn hollow(fault: SourceFault) -> Self {
        let blank = None;
        Self::Silent { fault, blank }
    }

    /// The reading for what was parsed at `place`.
    pub(super) fn parsed(place: &str, parsed: Result<Parsed, DocumentFault>) -> Self {
        match parsed {
            Ok(Parsed::Document(document)) => Self::Found(Arc::new(document)),
            Ok(Parsed::Empty) => Self::nothing(place),
            Ok(Parsed::Null) => Self::Empty(Blank::at(place)),
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
    pub(super) fn at(place: &str) -> Self {
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

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
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
