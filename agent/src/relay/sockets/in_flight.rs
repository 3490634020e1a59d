//! Whether bytes of a relay are in this process's memory, where they would be lost with it.

use std::sync::atomic::{AtomicU8, Ordering};

/// The mark of one direction: set before it reads, cleared once all is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight<'a> {
    mark: &'a AtomicU8,
    bit: u8,
}

// The mark may lie in memory that outlives the process. Nothing else is ordered by it: a process
// that was killed writes no more.
impl<'a> InFlight<'a> {
    pub(super) fn inward(mark: &'a AtomicU8) -> Self {
        Self { mark, bit: 1 }
    }

    pub(super) fn outward(mark: &'a AtomicU8) -> Self {
        Self { mark, bit: 2 }
    }

    pub(super) fn set(self) {
        self.mark.fetch_or(self.bit, Ordering::AcqRel);
    }

    pub(super) fn clear(self) {
        self.mark.fetch_and(!self.bit, Ordering::AcqRel);
    }
}
