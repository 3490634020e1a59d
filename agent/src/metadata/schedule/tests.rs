use proptest::prelude::*;

use super::*;

const OLD: Duration = Duration::from_secs(3600);

/// The pauses in seconds after rounds that all end like this, without chance.
fn pauses(schedule: &mut Schedule, outcome: Outcome, age: Duration, count: usize) -> Vec<u64> {
    (0..count)
        .map(|_| schedule.after(outcome, age, 0.5).as_secs())
        .collect()
}

#[test]
fn a_service_that_is_not_up_yet_is_asked_soon_while_the_guest_boots() {
    let mut schedule = Schedule::default();
    assert_eq!(
        pauses(&mut schedule, Outcome::Failed, Duration::ZERO, 5),
        [1, 2, 4, 5, 5]
    );
    assert_eq!(pauses(&mut schedule, Outcome::Failed, OLD, 3), [32, 60, 60]);
    assert_eq!(
        pauses(&mut schedule, Outcome::Absent, Duration::ZERO, 1),
        [10]
    );
    assert_eq!(pauses(&mut schedule, Outcome::Absent, OLD, 1), [300]);
}

#[test]
fn a_service_that_is_lost_is_asked_at_leisure() {
    let mut schedule = Schedule::default();
    assert_eq!(
        pauses(&mut schedule, Outcome::Found, Duration::ZERO, 1),
        [300]
    );
    assert_eq!(
        pauses(&mut schedule, Outcome::Failed, Duration::ZERO, 6),
        [5, 10, 20, 40, 60, 60]
    );
    assert_eq!(pauses(&mut schedule, Outcome::Found, OLD, 1), [300]);
    assert_eq!(pauses(&mut schedule, Outcome::Failed, OLD, 1), [5]);
}

#[test]
fn a_source_that_failed_before_the_one_that_had_it_is_asked_again_soon_and_then_seldom() {
    let mut schedule = Schedule::default();
    assert_eq!(
        pauses(&mut schedule, Outcome::FoundBehindFailure, OLD, 8),
        [5, 10, 20, 40, 80, 160, 300, 300]
    );
    assert_eq!(pauses(&mut schedule, Outcome::Found, OLD, 1), [300]);
}

#[test]
fn a_source_that_gives_its_word_for_nothing_is_heard_less_and_less() {
    let mut schedule = Schedule::default();
    assert_eq!(schedule.before_word(), Duration::ZERO);
    let mut deaf = || {
        schedule.word(false);
        schedule.before_word().as_secs()
    };
    let pauses: Vec<_> = (0..9).map(|_| deaf()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    schedule.word(true);
    assert_eq!(schedule.before_word(), Duration::ZERO);
}

proptest! {
    #[test]
    fn no_pause_is_shorter_than_a_blink_or_longer_than_seven_minutes(
        rounds in proptest::collection::vec((0..4_u8, 0..10_000_u64, 0.0..1.0_f64), 1..100),
    ) {
        let mut schedule = Schedule::default();
        for (outcome, age, chance) in rounds {
            let outcome = match outcome {
                0 => Outcome::Found,
                1 => Outcome::FoundBehindFailure,
                2 => Outcome::Absent,
                _ => Outcome::Failed,
            };
            let pause = schedule.after(outcome, Duration::from_secs(age), chance);
            prop_assert!(pause >= Duration::from_millis(750) && pause <= Duration::from_secs(420));
        }
    }
}
