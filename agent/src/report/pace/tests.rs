use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn changes_in_a_group_are_told_once_and_what_is_known_is_not_told_again() {
    let start = Instant::now();
    let mut pace = Pace::default();
    assert_eq!((pace.due(), pace.take(start)), (None, None));
    pace.offer(start, 1);
    pace.offer(start + SECOND / 2, 2);
    let due = pace.due().unwrap();
    assert!(due <= start + 2 * SECOND);
    assert_eq!(pace.take(due - SECOND), None);
    assert_eq!(pace.take(due), Some(2));
    pace.answered(due, 2, Ok(()), 0.5);
    pace.offer(due, 2);
    assert_eq!(pace.due(), None);
    // Back and forth before it was told is nothing.
    pace.offer(due, 3);
    assert!(pace.due().unwrap() >= due + DISTANCE);
    pace.offer(due, 2);
    assert_eq!(pace.due(), None);
}

#[test]
fn failures_are_retried_ever_more_slowly() {
    for (is_final, first, cap) in [(false, DISTANCE, CAP), (true, FINAL, FINAL_CAP)] {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        pace.offer(now, 1);
        let mut waits = Vec::new();
        for _ in 0..30 {
            now = pace.due().unwrap();
            let message = pace.take(now).unwrap();
            pace.answered(now, message, Err(is_final), 0.5);
            waits.push(pace.due().unwrap() - now);
        }
        assert_eq!(waits[0], first);
        assert!(waits.is_sorted(), "{waits:?}");
        assert_eq!(waits.last(), Some(&cap));
    }
}

#[test]
fn a_failure_forgets_what_was_known() {
    let now = Instant::now();
    let mut pace = Pace::default();
    pace.offer(now, 1);
    let message = pace.take(now + SETTLE).unwrap();
    pace.answered(now, message, Ok(()), 0.0);
    pace.offer(now, 2);
    let due = pace.due().unwrap();
    assert_eq!(pace.take(due), Some(2));
    pace.answered(due, 2, Err(false), 0.0);
    pace.offer(due, 1);
    let due = pace.due().unwrap();
    assert_eq!(pace.take(due), Some(1));
}

proptest! {
    /// Whatever happens: no two attempts within the distance; nothing that is known is told; and
    /// once the peer takes it, what is true is known within the longest wait.
    #[test]
    fn bounds(steps in proptest::collection::vec((0_u64..400, 0_u8..4, 0_u8..3, 0.0..1.0), 1..80)) {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let (mut told, mut last, mut truth) = (None, None::<Instant>, None);
        for (gap, message, answer, chance) in steps {
            now += Duration::from_secs(gap);
            if let Some(message) = pace.take(now) {
                prop_assert!(last.is_none_or(|last| now - last >= DISTANCE));
                prop_assert_ne!(Some(message), told);
                last = Some(now);
                let answer = [Ok(()), Err(false), Err(true)][usize::from(answer)];
                told = answer.is_ok().then_some(message);
                pace.answered(now, message, answer, chance);
            }
            pace.offer(now, message);
            truth = Some(message);
            if let Some(due) = pace.due() {
                prop_assert!(due <= now + FINAL_CAP.mul_f64(1.25));
            }
        }
        while let Some(due) = pace.due() {
            prop_assert!(due <= now + FINAL_CAP.mul_f64(1.25));
            let message = pace.take(due).unwrap();
            pace.answered(due, message, Ok(()), 0.5);
            told = Some(message);
        }
        prop_assert_eq!(told, truth);
    }
}
