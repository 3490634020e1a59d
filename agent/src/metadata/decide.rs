//! The rule: which document is in force after a round. Pure.
//!
//! | the round says | in force afterwards | state |
//! |---|---|---|
//! | a source has a document | that document | found |
//! | the same, but the source of the last good document failed | the last good one | failed |
//! | nothing found, the source of the last good document failed or was not heard of | the last good one | failed |
//! | nothing found, and that source says it has none any more | none | failed or absent |
//! | the same, in words that it would also use if it had failed | the last good one | failed |
//! | nothing found, nothing in force, a source failed | none | failed |
//! | every source says it has none | none | absent |
//!
//! So a failure never takes a document down; only its own source does, by saying that it is gone,
//! or a source before it or after it by having another. A document that is there but wrong is a
//! failure of its source. While none is in force, later sources make up for earlier ones that
//! fail, and the failure is shown beside what they found.

use std::sync::Arc;

use super::document::Document;
use super::reading::{Blank, Reading, SourceFault};
use crate::config::SourceName;

/// A document and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The document.
    pub document: Arc<Document>,
    /// The source that had it.
    pub source: SourceName,
}

/// What follows from a round.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// This document is in force; a source before it may have failed all the same.
    Take(Found, Option<SourceFault>),
    /// The last good document stays in force.
    Keep(SourceFault),
    /// None is in force, and this is why nothing better is known.
    Fail(SourceFault),
    /// None is in force, as nobody has one; perhaps there is an empty place for one.
    Drop(Option<Blank>),
}

/// Decides from the readings of a round, which ends at the first document found.
#[must_use]
pub fn decide(last_good: Option<&Found>, readings: &[(SourceName, Reading)]) -> Decision {
    let of_last = last_good.and_then(|last| readings.iter().find(|(name, _)| *name == last.source));
    if let Some((_, Reading::Failed(fault) | Reading::Silent { fault, .. })) = of_last {
        return Decision::Keep(fault.clone());
    }
    let found = readings.iter().find_map(|(source, reading)| match reading {
        Reading::Found(document) => Some(Found {
            document: Arc::clone(document),
            source: *source,
        }),
        Reading::Absent | Reading::Empty(_) | Reading::Silent { .. } | Reading::Failed(_) => None,
    });
    let faults = || {
        readings.iter().filter_map(|(_, reading)| match reading {
            Reading::Failed(fault) => Some(fault),
            Reading::Found(_) | Reading::Absent | Reading::Empty(_) | Reading::Silent { .. } => {
                None
            }
        })
    };
    // The one that matters: a wrong document rather than a service that nobody has.
    let fault = faults()
        .find(|fault| !fault.is_unreachable())
        .or_else(|| faults().next())
        .cloned();
    if let Some(found) = found {
        return Decision::Take(found, fault);
    }
    let Some(fault) = fault else {
        let blank = readings.iter().find_map(|(_, reading)| match reading {
            Reading::Empty(blank) => Some(blank.clone()),
            Reading::Silent { blank, .. } => blank.clone(),
            Reading::Found(_) | Reading::Absent | Reading::Failed(_) => None,
        });
        return Decision::Drop(blank);
    };
    let withdrawn = |last: &Found| readings.iter().any(|(name, _)| *name == last.source);
    match last_good {
        Some(last) if !withdrawn(last) => Decision::Keep(fault),
        Some(_) | None => Decision::Fail(fault),
    }
}

#[cfg(test)]
mod tests;
