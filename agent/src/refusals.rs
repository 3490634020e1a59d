//! Says who was turned away, and why, without letting them fill the journal.

use std::collections::{BTreeMap, BTreeSet};

use crate::origin::Party;
use crate::status::model::RefusalReason;

/// Different origins and reasons that are told apart: a guest has few neighbours, unless it is
/// being scanned.
const TOLD_APART: usize = 64;

/// Counts refusals between two summaries.
#[derive(Debug, Default)]
pub struct Refusals {
    named: BTreeSet<(Party, RefusalReason)>,
    since: BTreeMap<(Party, RefusalReason), u64>,
    others: u64,
}

impl Refusals {
    /// Counts a refusal of `origin`; true for its very first for this `reason`, which is worth a
    /// line of its own.
    pub fn first_of(&mut self, origin: &Party, reason: RefusalReason) -> bool {
        let pair = (origin.clone(), reason);
        if self.named.contains(&pair) {
            *self.since.entry(pair).or_default() += 1;
            return false;
        }
        if self.named.len() == TOLD_APART {
            self.others += 1;
            return false;
        }
        self.named.insert(pair)
    }

    /// What has been refused since the last summary, beside what had a line of its own.
    pub fn summary(&mut self) -> Option<String> {
        let mut parts: Vec<_> = std::mem::take(&mut self.since)
            .into_iter()
            .map(|((origin, reason), count)| format!("{count} of {origin} ({reason})"))
            .collect();
        match std::mem::take(&mut self.others) {
            0 => {}
            count => parts.push(format!("{count} of others")),
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use RefusalReason::{CidNotAllowed, TooFast};

    use super::*;

    #[test]
    fn the_first_has_its_line_and_the_rest_are_summed_up() {
        let mut refusals = Refusals::default();
        let mut first_of = |cid, reason| refusals.first_of(&Party::Cid(cid), reason);
        assert!(first_of(5, CidNotAllowed));
        assert!(first_of(2, TooFast));
        assert!(first_of(5, TooFast));
        for (cid, reason) in [(5, CidNotAllowed), (5, CidNotAllowed), (2, TooFast)] {
            assert!(!first_of(cid, reason));
        }
        let summary = refusals.summary();
        let expected = "1 of cid 2 (too-fast), 2 of cid 5 (cid-not-allowed)";
        assert_eq!(summary.as_deref(), Some(expected));
        assert_eq!(refusals.summary(), None);
    }

    #[test]
    fn a_scan_over_all_cids_takes_no_memory() {
        let mut refusals = Refusals::default();
        let lines = (0..100_000)
            .filter(|cid| refusals.first_of(&Party::Cid(*cid), CidNotAllowed))
            .count();
        assert_eq!(lines, TOLD_APART);
        assert_eq!(refusals.summary().unwrap(), "99936 of others");
    }
}
