//! More than one proxy: which is tried when.

use super::*;

#[test]
fn the_next_proxy_is_tried_at_once_and_the_first_after_a_while() {
    let now = Instant::now();
    let mut machine = machine(1);
    assert_eq!(machine.step(now, Input::Wanted(3)), Some(Order::Open(0)));
    assert_eq!(
        machine.step(now, Input::Ended(lost())),
        Some(Order::Open(1))
    );
    assert_eq!(
        machine.step(now, Input::Ended(lost())),
        Some(Order::Open(2))
    );
    assert_eq!(machine.step(now, Input::Ended(lost())), None);
    assert_eq!(machine.attempt(), 3);
    let due = machine.deadline().unwrap();
    assert_eq!(machine.step(due, Input::Tick), Some(Order::Open(0)));
}

#[test]
fn a_held_port_is_left_for_another_proxy_if_there_is_one() {
    let mut now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(2));
    machine.step(now, refused(held(), false));
    let start = now;
    loop {
        now = machine.deadline().unwrap();
        match machine.step(now, Input::Tick) {
            Some(Order::Request) => drop(machine.step(now, refused(held(), false))),
            order => break assert_eq!(order, Some(Order::Close)),
        }
    }
    assert_eq!(now, start + Timing::default().port_held_leave);
    let order = machine.step(now, Input::Ended(Fault::Stopped));
    assert_eq!(order, Some(Order::Open(1)));
}

#[test]
fn a_proxy_that_a_person_has_to_mend_is_passed_over_meanwhile() {
    let mut now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(2));
    assert_eq!(
        machine.step(now, Input::Ended(rejected())),
        Some(Order::Open(1))
    );
    machine.step(now, Input::Ended(lost()));
    // Again and again the second one only, until the first one's time has come.
    let mut passed = 0;
    loop {
        now = machine.deadline().unwrap();
        match machine.step(now, Input::Tick) {
            Some(Order::Open(1)) => passed += 1,
            order => break assert_eq!(order, Some(Order::Open(0))),
        }
        machine.step(now, Input::Ended(lost()));
    }
    assert!(passed > 0);
    // News may be just what the person did.
    machine.step(now, Input::Ended(rejected()));
    machine.step(now, Input::Ended(lost()));
    assert_eq!(machine.step(now, Input::Nudge), Some(Order::Open(0)));
}

#[test]
fn a_silent_proxy_is_not_asked_first_again_where_there_is_another() {
    let now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(2));
    machine.step(now, Input::Granted(1));
    machine.step(now, Input::Probed(Probe::Answered));
    assert_eq!(
        machine.step(now, Input::Ended(lost())),
        Some(Order::Open(1))
    );
}

#[test]
fn the_first_proxy_is_scouted_calmly_and_switched_to_once_it_is_up() {
    let mut now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(2));
    machine.step(now, Input::Ended(lost()));
    machine.step(now, Input::Granted(1));
    machine.step(now, Input::Probed(Probe::Answered));
    let next_scout = |machine: &mut Machine, now: &mut Instant| {
        let since = *now;
        loop {
            *now = machine.deadline().unwrap();
            match machine.step(*now, Input::Tick) {
                Some(Order::Probe) => drop(machine.step(*now, Input::Probed(Probe::Answered))),
                order => {
                    assert_eq!(order, Some(Order::Scout(0)));
                    break now.duration_since(since);
                }
            }
        }
    };
    for _ in 0..5 {
        let pause = next_scout(&mut machine, &mut now);
        assert!(pause >= 30 * SECOND && pause <= 90 * SECOND, "{pause:?}");
        assert_eq!(machine.step(now, Input::Scouted(Err(unreachable()))), None);
        assert_eq!(machine.state().proxy(), Some(1));
    }
    assert_eq!(machine.step(now, Input::Nudge), Some(Order::Scout(0)));
    let found = Input::Scouted(Ok((7, Proof::Proven)));
    assert_eq!(machine.step(now, found), Some(Order::Switch));
    let State::Up {
        proxy: 0,
        port: 7,
        scout_at: None,
        ..
    } = machine.state()
    else {
        panic!("{:?}", machine.state());
    };
}
