use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A hold whose tunnel was wanted and came up.
fn up() -> Hold {
    let mut hold = Hold::default();
    hold.wanted(Traffic::Down);
    hold.wanted(Traffic::Idle);
    hold
}

#[test]
fn a_tunnel_that_never_came_up_goes_at_once() {
    let now = Instant::now();
    assert_eq!(Hold::default().kept_until(now, Traffic::Down), None);
    let mut hold = Hold::default();
    hold.wanted(Traffic::Down);
    assert_eq!(hold.kept_until(now, Traffic::Down), None);
}

#[test]
fn one_that_was_up_is_kept_for_a_minute_also_while_it_is_being_mended() {
    let now = Instant::now();
    let mut hold = up();
    let until = now + QUIET;
    assert_eq!(hold.kept_until(now, Traffic::Idle), Some(until));
    assert_eq!(hold.kept_until(until - SECOND, Traffic::Down), Some(until));
    assert_eq!(hold.kept_until(until, Traffic::Idle), None);
    // It takes a moment to give the port back: that is no tunnel to be kept.
    assert_eq!(hold.kept_until(until + SECOND, Traffic::Idle), None);
}

#[test]
fn a_verdict_that_needs_it_in_between_begins_the_minute_anew() {
    let now = Instant::now();
    let mut hold = up();
    assert!(hold.kept_until(now, Traffic::Idle).is_some());
    hold.wanted(Traffic::Idle);
    let later = now + QUIET - SECOND;
    assert_eq!(hold.kept_until(later, Traffic::Idle), Some(later + QUIET));
}

#[test]
fn open_connections_put_it_off_and_a_quiet_minute_must_follow() {
    let now = Instant::now();
    let mut hold = up();
    for minute in 0..30 {
        let now = now + minute * QUIET;
        assert_eq!(hold.kept_until(now, Traffic::Open), Some(now + QUIET));
    }
    let until = now + 30 * QUIET;
    assert_eq!(hold.kept_until(until - SECOND, Traffic::Idle), Some(until));
    assert_eq!(hold.kept_until(until, Traffic::Idle), None);
}

#[test]
fn a_session_that_is_never_closed_has_an_hour() {
    let now = Instant::now();
    let mut hold = up();
    let mut at = now;
    while let Some(until) = hold.kept_until(at, Traffic::Open) {
        at = until;
    }
    assert_eq!(at, now + BUSY);
}

#[test]
fn what_a_person_says_is_not_put_off() {
    let now = Instant::now();
    let mut hold = up();
    hold.drop_it();
    assert_eq!(hold.kept_until(now, Traffic::Open), None);
}

/// What happens: seconds pass, then the verdict speaks, with this going through the tunnel.
type Step = (u64, bool, Traffic);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let traffic = prop::sample::select(vec![Traffic::Down, Traffic::Idle, Traffic::Open]);
    proptest::collection::vec((0_u64..100, any::<bool>(), traffic), 1..60)
}

proptest! {
    /// Never down before a quiet minute has passed since it was last needed or used, never later
    /// than an hour after it was first not needed; and looked at again within a minute.
    #[test]
    fn bounds(steps in steps()) {
        let mut hold = Hold::default();
        let mut now = Instant::now();
        let (mut held, mut was_up) = (false, false);
        let (mut needed, mut used) = (now, now);
        for (gap, needs, traffic) in steps {
            now += Duration::from_secs(gap);
            // Nothing goes through one that is not held.
            let traffic = if held { traffic } else { Traffic::Down };
            was_up |= traffic != Traffic::Down;
            if needs {
                hold.wanted(traffic);
                (held, needed, used) = (true, now, now);
                continue;
            }
            if traffic == Traffic::Open {
                used = now;
            }
            let until = hold.kept_until(now, traffic);
            if held && was_up && now < used + QUIET && now < needed + BUSY {
                prop_assert!(until.is_some());
            }
            if now >= needed + BUSY + Duration::from_secs(100) {
                prop_assert!(until.is_none());
            }
            if let Some(until) = until {
                prop_assert!(now < until && until <= now + QUIET);
            } else {
                (held, was_up) = (false, false);
            }
        }
    }
}
