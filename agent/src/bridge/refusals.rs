//! Says who was turned away without letting them fill the journal.

use std::collections::{BTreeMap, BTreeSet};

/// Different CIDs that are told apart: a guest has few neighbours, unless it is being scanned.
const TOLD_APART: usize = 64;

/// Counts refusals between two summaries.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    named: BTreeSet<u32>,
    since: BTreeMap<u32, u64>,
    others: u64,
}

impl Refusals {
    /// Counts a refusal of `cid`; true for its very first, which is worth a line of its own.
    pub(super) fn first_of(&mut self, cid: u32) -> bool {
        if self.named.contains(&cid) {
            *self.since.entry(cid).or_default() += 1;
            return false;
        }
        if self.named.len() == TOLD_APART {
            self.others += 1;
            return false;
        }
        self.named.insert(cid)
    }

    /// What has been refused since the last summary, beside what had a line of its own.
    pub(super) fn summary(&mut self) -> Option<String> {
        let mut parts: Vec<_> = std::mem::take(&mut self.since)
            .into_iter()
            .map(|(cid, count)| format!("{count} of cid {cid}"))
            .collect();
        match std::mem::take(&mut self.others) {
            0 => {}
            count => parts.push(format!("{count} of other CIDs")),
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_has_its_line_and_the_rest_are_summed_up() {
        let mut refusals = Refusals::default();
        assert!(refusals.first_of(5));
        assert_eq!(refusals.summary(), None);
        assert!(refusals.first_of(3));
        for cid in [5, 5, 3] {
            assert!(!refusals.first_of(cid));
        }
        let summary = refusals.summary();
        assert_eq!(summary.as_deref(), Some("1 of cid 3, 2 of cid 5"));
        assert_eq!(refusals.summary(), None);
    }

    #[test]
    fn a_scan_over_all_cids_takes_no_memory() {
        let mut refusals = Refusals::default();
        let lines = (0..100_000).filter(|cid| refusals.first_of(*cid)).count();
        assert_eq!(lines, TOLD_APART);
        assert_eq!(refusals.summary().unwrap(), "99936 of other CIDs");
    }
}
