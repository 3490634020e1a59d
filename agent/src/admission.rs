//! How many connections there may be, and how fast new ones may come.
//!
//! The bridge has one of these and each session of the tunnel another, so that what comes through
//! the proxy's public port takes no place of the bridge's. A connection that waits for a login
//! can't be told from one that is at work: what keeps an origin that opens many and says nothing
//! from taking all places is the bound on each origin; sshd's `LoginGraceTime` gives them back.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::origin::Party;
use crate::status::model::RefusalReason;

/// What an origin has not used of its rate in so long, it may use at once.
const BURST: Duration = Duration::from_secs(5);

/// A connection that came too fast waits for its turn, but no longer than that: a client should
/// read why it does not get in before it gives up by itself.
const WAIT: Duration = Duration::from_secs(5);

/// Idle origins that are remembered before they are looked through for what can be forgotten.
const IDLE: usize = 64;

/// What one way in takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections open at the same time.
    pub total: usize,
    /// Of these, of one origin.
    pub per_origin: usize,
    /// New ones of one origin in a second, in the long run.
    pub rate: Option<NonZeroU32>,
}

/// Counts the connections that are open, in all and of each origin.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    all: Arc<()>,
    origins: HashMap<Party, Entry>,
    look_through_at: usize,
}

/// A connection's place: free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    // Each place holds both counts up by one.
    _all: Arc<()>,
    _own: Arc<()>,
}

#[derive(Debug)]
struct Entry {
    own: Arc<()>,
    /// When all that came so far would have come at the steady rate.
    due: Instant,
}

impl Admission {
    /// Nothing is open yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            all: Arc::default(),
            origins: HashMap::new(),
            look_through_at: IDLE,
        }
    }

    /// Its bounds.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Counts a connection that another process has let in.
    pub fn readmit(&mut self, origin: &Party) -> Place {
        let entry = self.origins.entry(origin.clone()).or_insert_with(|| Entry {
            own: Arc::default(),
            due: Instant::now(),
        });
        Place {
            _all: Arc::clone(&self.all),
            _own: Arc::clone(&entry.own),
        }
    }

    /// A place for a connection of `origin` that came `now`, and how long it is to wait for its
    /// turn: nothing, as a rule.
    ///
    /// # Errors
    /// Which bound it is over.
    pub fn admit(
        &mut self,
        origin: &Party,
        now: Instant,
    ) -> Result<(Place, Duration), RefusalReason> {
        self.forget_idle(now);
        let Bounds {
            total,
            per_origin,
            rate,
        } = self.bounds;
        if held(&self.all) >= total {
            return Err(RefusalReason::TooManyOpen);
        }
        let entry = self.origins.entry(origin.clone()).or_insert_with(|| Entry {
            own: Arc::default(),
            due: now,
        });
        if held(&entry.own) >= per_origin {
            return Err(RefusalReason::TooManyOfOrigin);
        }
        let mut wait = Duration::ZERO;
        if let Some(rate) = rate {
            let ahead = entry.due.saturating_duration_since(now);
            wait = ahead.saturating_sub(BURST);
            if wait > WAIT {
                return Err(RefusalReason::TooFast);
            }
            entry.due = entry.due.max(now) + Duration::from_secs(1) / rate.get();
        }
        let place = Place {
            _all: Arc::clone(&self.all),
            _own: Arc::clone(&entry.own),
        };
        Ok((place, wait))
    }

    /// Clients of the proxy have any number of addresses: those that have nothing open, and would
    /// be as new, are not kept.
    fn forget_idle(&mut self, now: Instant) {
        if self.origins.len() >= self.look_through_at {
            self.origins
                .retain(|_, entry| held(&entry.own) > 0 || entry.due > now);
            self.look_through_at = 2 * self.origins.len() + IDLE;
        }
    }
}

/// How many places hold this count up.
fn held(count: &Arc<()>) -> usize {
    Arc::strong_count(count) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOST: Party = Party::Cid(2);
    const NEIGHBOUR: Party = Party::Cid(5);

    fn bounded(total: usize, per_origin: usize, rate: u32) -> Admission {
        Admission::new(Bounds {
            total,
            per_origin,
            rate: NonZeroU32::new(rate),
        })
    }

    /// How many of `count` that come at the same moment are let in, and the longest wait.
    fn come(all: &mut Admission, origin: &Party, count: usize, now: Instant) -> (usize, Duration) {
        let let_in: Vec<_> = (0..count)
            .filter_map(|_| all.admit(origin, now).ok())
            .collect();
        let longest = let_in.iter().map(|(_, wait)| *wait).max();
        (let_in.len(), longest.unwrap_or_default())
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let mut all = bounded(2, 2, 0);
        let now = Instant::now();
        let first = all.admit(&HOST, now).unwrap();
        let _second = all.admit(&HOST, now).unwrap();
        let refused = all.admit(&NEIGHBOUR, now).unwrap_err();
        assert_eq!(refused, RefusalReason::TooManyOpen);
        drop(first);
        all.admit(&NEIGHBOUR, now).unwrap();
    }

    #[test]
    fn an_origin_that_holds_all_it_can_leaves_room_for_another() {
        let mut all = bounded(10, 5, 0);
        let now = Instant::now();
        let held: Vec<_> = (0..5)
            .map(|_| all.admit(&NEIGHBOUR, now).unwrap())
            .collect();
        for _ in 0..1000 {
            let refused = all.admit(&NEIGHBOUR, now).unwrap_err();
            assert_eq!(refused, RefusalReason::TooManyOfOrigin);
        }
        let _host: Vec<_> = (0..5).map(|_| all.admit(&HOST, now).unwrap()).collect();
        drop(held);
        all.admit(&NEIGHBOUR, now).unwrap();
    }

    #[test]
    fn a_burst_goes_through_a_longer_one_is_stretched_and_a_flood_is_refused() {
        let mut all = bounded(usize::MAX, usize::MAX, 100);
        let now = Instant::now();
        assert_eq!(come(&mut all, &HOST, 501, now), (501, Duration::ZERO));
        assert_eq!(come(&mut all, &HOST, 10_000, now), (500, 5 * SECOND));
        let refused = all.admit(&HOST, now).unwrap_err();
        assert_eq!(refused, RefusalReason::TooFast);
        // The others are not concerned.
        assert_eq!(come(&mut all, &NEIGHBOUR, 1, now), (1, Duration::ZERO));
        // And all is forgiven in the end.
        let later = now + 11 * SECOND;
        assert_eq!(come(&mut all, &HOST, 501, later), (501, Duration::ZERO));
    }

    #[test]
    fn the_steady_rate_is_never_held_up() {
        let mut all = bounded(10, 10, 100);
        let start = Instant::now();
        for tick in 0..10_000 {
            let now = start + tick * SECOND / 100;
            assert_eq!(come(&mut all, &HOST, 1, now), (1, Duration::ZERO));
        }
    }

    #[test]
    fn a_refusal_uses_nothing_up() {
        let mut all = bounded(1, 1, 1);
        let now = Instant::now();
        let place = all.admit(&HOST, now).unwrap();
        assert_eq!(come(&mut all, &HOST, 1000, now).0, 0);
        drop(place);
        assert_eq!(come(&mut all, &HOST, 1, now), (1, Duration::ZERO));
    }

    #[test]
    fn origins_that_have_gone_take_no_memory() {
        let mut all = bounded(1000, 1, 100);
        let start = Instant::now();
        let _held: Vec<_> = (0..500)
            .map(|cid| all.admit(&Party::Cid(cid), start).unwrap())
            .collect();
        for cid in 500..100_000 {
            let now = start + cid * SECOND / 1000;
            all.admit(&Party::Cid(cid), now).unwrap();
        }
        assert!(all.origins.len() < 1200, "{}", all.origins.len());
        let refused = all.admit(&Party::Cid(3), start + 100 * SECOND).unwrap_err();
        assert_eq!(refused, RefusalReason::TooManyOfOrigin);
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_exceeded(steps in prop::collection::vec((0_u32..4, 0_u64..50, any::<bool>()), 0..400)) {
            let mut all = bounded(20, 8, 100);
            let mut now = Instant::now();
            let mut open: Vec<(u32, Place)> = Vec::new();
            for (cid, pause, closes) in steps {
                now += Duration::from_millis(pause);
                if closes && !open.is_empty() {
                    open.remove(cid as usize % open.len());
                }
                if let Ok((place, wait)) = all.admit(&Party::Cid(cid), now) {
                    prop_assert!(wait <= WAIT);
                    open.push((cid, place));
                }
                let own = open.iter().filter(|(of, _)| *of == cid).count();
                prop_assert!(open.len() <= 20 && own <= 8);
            }
        }
    }
}
