//! What the status says of connections that were turned away.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::origin::Party;

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// `[bridge] allow_cids` does not have this context ID.
    CidNotAllowed,
    /// As many are open as there may be in all.
    TooManyOpen,
    /// As many of this origin are open as it may have.
    TooManyOfOrigin,
    /// This origin opens them too fast.
    TooFast,
    /// sshd did not answer while the connection could be held.
    SshdDown,
    /// This process or the machine had no descriptor left for it.
    NoDescriptors,
    /// It waited while the agent was told to stop.
    Stopping,
}

impl RefusalReason {
    /// Its code in the status and the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CidNotAllowed => "cid-not-allowed",
            Self::TooManyOpen => "too-many-open",
            Self::TooManyOfOrigin => "too-many-of-origin",
            Self::TooFast => "too-fast",
            Self::SshdDown => "sshd-down",
            Self::NoDescriptors => "no-descriptors",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often one origin was turned away for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalCount {
    /// `cid 5`, `unix`, or an IP address or IPv6 /64 as the proxy reported it.
    pub origin: String,
    /// See [`RefusalReason`].
    pub reason: RefusalReason,
    /// How often since the start, or since it was last dropped from the list.
    pub count: u64,
    /// When last.
    pub last_at: Timestamp,
}

impl RefusalCount {
    /// How many pairs of origin and reason a list keeps.
    const KEPT: usize = 16;

    /// Counts one refusal, and forgets the one that is longest ago when full.
    pub fn add(list: &mut Vec<Self>, origin: &Party, reason: RefusalReason) {
        let origin = origin.to_string();
        let before = list
            .iter()
            .position(|entry| entry.reason == reason && entry.origin == origin);
        let count = before.map_or(0, |index| list.remove(index).count);
        if list.len() == Self::KEPT {
            list.remove(0);
        }
        list.push(Self {
            origin,
            reason,
            count: count.saturating_add(1),
            last_at: Timestamp::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_origin_and_reason_is_counted_and_the_last_ones_are_kept() {
        use RefusalReason::{CidNotAllowed, TooFast};
        let mut list = Vec::new();
        for cid in 0..100 {
            RefusalCount::add(&mut list, &Party::Cid(2), TooFast);
            RefusalCount::add(&mut list, &Party::Cid(cid), CidNotAllowed);
        }
        assert_eq!(list.len(), 16);
        let host = list.iter().find(|entry| entry.reason == TooFast).unwrap();
        assert_eq!((host.origin.as_str(), host.count), ("cid 2", 100));
        assert_eq!(list.last().unwrap().origin, "cid 99");
    }

    #[test]
    fn the_code_is_the_same_for_machines_and_in_words() {
        for reason in [
            RefusalReason::CidNotAllowed,
            RefusalReason::TooManyOpen,
            RefusalReason::TooManyOfOrigin,
            RefusalReason::TooFast,
            RefusalReason::SshdDown,
            RefusalReason::NoDescriptors,
            RefusalReason::Stopping,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
