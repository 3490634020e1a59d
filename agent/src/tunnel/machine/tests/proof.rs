//! A probe is evidence, not a verdict.

use super::*;

fn proof(machine: &Machine) -> Option<&Proof> {
    if let State::Up { proof, .. } = machine.state() {
        Some(proof)
    } else {
        None
    }
}

fn failed_once() -> Input {
    Input::Probed(Probe::Failed(unreachable()))
}

/// Lets the clock run for so long; probes end like this. Returns when the session was closed.
fn run(
    machine: &mut Machine,
    start: Instant,
    time: Duration,
    probe: impl Fn() -> Probe,
) -> Option<Duration> {
    loop {
        let now = machine.deadline().unwrap();
        if now > start + time {
            return None;
        }
        match machine.step(now, Input::Tick) {
            Some(Order::Close) => return Some(now.duration_since(start)),
            Some(Order::Probe) => drop(machine.step(now, Input::Probed(probe()))),
            Some(Order::Open(_) | Order::Request | Order::Scout(_) | Order::Switch) | None => {}
        }
    }
}

#[test]
fn a_forward_that_is_never_proven_is_up_and_says_why() {
    for (probe, expected) in [
        (unproven(), unproven().proof()),
        (Probe::Failed(unreachable()), Proof::Doubtful(unreachable())),
        (Probe::Partial(dropped()), Proof::Doubtful(dropped())),
    ] {
        let start = Instant::now();
        let mut machine = machine(1);
        enter(&mut machine, start, "proving");
        let closed = run(&mut machine, start, 10 * SECOND, || probe.clone());
        assert_eq!(closed, None);
        assert_eq!(proof(&machine), Some(&expected));
    }
}

#[test]
fn two_failed_probes_in_a_row_take_the_proof_away_and_one_does_not() {
    for probe in [Probe::Failed(unreachable()), unproven()] {
        let now = Instant::now();
        let mut machine = machine(1);
        enter(&mut machine, now, "up");
        machine.step(now, Input::Probed(probe.clone()));
        assert_eq!(proof(&machine), Some(&Proof::Proven));
        machine.step(now, Input::Probed(Probe::Answered));
        machine.step(now, Input::Probed(probe.clone()));
        assert_eq!(proof(&machine), Some(&Proof::Proven));
        machine.step(now, Input::Probed(probe.clone()));
        assert_eq!(proof(&machine), Some(&probe.proof()));
        machine.step(now, Input::Probed(Probe::Answered));
        assert_eq!(proof(&machine), Some(&Proof::Proven));
    }
}

#[test]
fn lost_full_packets_are_answered_by_another_session_at_once() {
    let now = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, now, "up");
    let lost = Fault::PathMtu {
        target: "proxy:1".to_owned(),
    };
    for _ in 0..2 {
        machine.step(now, Input::Probed(Probe::Failed(lost.clone())));
    }
    assert_eq!(proof(&machine), Some(&Proof::Doubtful(lost)));
    // The next session has smaller packets, and nobody uses this one.
    assert!(machine.deadline().unwrap() <= now + SECOND);
}

/// sshd reads its configuration at each login, so another one may be given a better forward.
#[test]
fn a_forward_that_nobody_uses_is_asked_for_on_another_session_at_growing_distances() {
    let mut start = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, start, "proving");
    let mut before = Duration::ZERO;
    for _ in 0..12 {
        let closed = run(&mut machine, start, 4000 * SECOND, || {
            Probe::Failed(unreachable())
        });
        let closed = closed.unwrap();
        assert!(closed >= 14 * SECOND, "{closed:?}");
        assert!(closed >= before.mul_f64(1.2) || closed > 2700 * SECOND);
        before = closed;
        start += closed;
        machine.step(start, Input::Ended(Fault::Stopped));
        assert!(matches!(machine.state(), State::Waiting { fault, .. } if *fault == unreachable()));
        start = machine.deadline().unwrap();
        machine.step(start, Input::Tick);
        machine.step(start, Input::Granted(1));
    }
}

#[test]
fn a_person_who_mended_the_proxy_need_not_wait_for_that() {
    for state in ["proving", "up"] {
        let now = Instant::now();
        let mut machine = machine(1);
        enter(&mut machine, now, state);
        for _ in 0..2 {
            machine.step(now, Input::Probed(Probe::Failed(unreachable())));
        }
        machine.step(now, Input::InUse(true));
        assert_eq!(machine.step(now, Input::Nudge), Some(Order::Probe));
        machine.step(now, Input::InUse(false));
        assert_eq!(machine.step(now, Input::Woken), Some(Order::Probe));
        assert_eq!(machine.step(now, Input::Nudge), Some(Order::Close));
        let order = machine.step(now, Input::Ended(Fault::Stopped));
        assert_eq!(order, Some(Order::Open(0)));
    }
}

#[test]
fn where_another_session_would_be_no_better_none_is_opened() {
    for probe in [
        unproven(),
        Probe::Partial(dropped()),
        Probe::Failed(dropped()),
        Probe::Failed(no_sshd()),
    ] {
        let start = Instant::now();
        let mut machine = machine(1);
        enter(&mut machine, start, "proving");
        let closed = run(&mut machine, start, 10_000 * SECOND, || probe.clone());
        assert_eq!(closed, None, "{probe:?}");
    }
}

#[test]
fn a_session_in_use_is_kept_whatever_probes_say() {
    for proxies in [1, 3] {
        let start = Instant::now();
        let mut machine = machine(1);
        machine.step(start, Input::Wanted(proxies));
        machine.step(start, Input::Granted(1));
        machine.step(start, Input::InUse(true));
        let failed = || Probe::Failed(unreachable());
        assert_eq!(run(&mut machine, start, 10_000 * SECOND, failed), None);
        let left = start + 10_000 * SECOND;
        machine.step(left, Input::InUse(false));
        assert!(run(&mut machine, left, 4000 * SECOND, failed).is_some());
    }
}

/// A firewall that admits users and not this guest.
#[test]
fn users_who_come_in_prove_the_forward_and_the_failing_probe_worthless() {
    let start = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, start, "proving");
    let failed = || Probe::Failed(unreachable());
    run(&mut machine, start, 10 * SECOND, failed);
    assert_eq!(proof(&machine), Some(&Proof::Doubtful(unreachable())));
    let now = start + 10 * SECOND;
    machine.step(now, Input::Probed(Probe::Carried));
    assert_eq!(proof(&machine), Some(&Proof::Proven));
    assert_eq!(run(&mut machine, now, 3000 * SECOND, failed), None);
    assert_eq!(proof(&machine), Some(&Proof::Proven));
    // That sshd is gone is another matter, and so is an hour without users.
    let now = now + 3000 * SECOND;
    let mut other = machine.clone();
    for _ in 0..2 {
        other.step(now, Input::Probed(Probe::Failed(no_sshd())));
    }
    assert_eq!(proof(&other), Some(&Proof::Doubtful(no_sshd())));
    let mut end = now;
    while proof(&machine) == Some(&Proof::Proven) && end < now + 1000 * SECOND {
        end = machine.deadline().unwrap();
        if machine.step(end, Input::Tick) == Some(Order::Probe) {
            machine.step(end, failed_once());
        }
    }
    assert_eq!(proof(&machine), Some(&Proof::Doubtful(unreachable())));
    assert!(end >= now + 600 * SECOND);
    // A probe that comes back says that its way is open.
    let now = end;
    machine.step(now, Input::Probed(Probe::Carried));
    machine.step(now, Input::Probed(Probe::Answered));
    for _ in 0..2 {
        machine.step(now, failed_once());
    }
    assert_eq!(proof(&machine), Some(&Proof::Doubtful(unreachable())));
}

#[test]
fn an_sshd_that_comes_back_is_found_within_ten_seconds() {
    let start = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, start, "proving");
    let gone = || Probe::Failed(no_sshd());
    run(&mut machine, start, 3600 * SECOND, gone);
    let now = start + 3600 * SECOND;
    assert!(machine.deadline().unwrap() <= now + 10 * SECOND);
}

#[test]
fn a_scout_that_comes_up_while_the_tunnel_is_being_proven_is_taken() {
    let now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(2));
    machine.step(now, Input::Ended(lost()));
    machine.step(now, Input::Granted(1));
    assert_eq!(name(machine.state()), "proving");
    let found = Input::Scouted(Ok((7, Proof::Proven)));
    assert_eq!(machine.step(now, found), Some(Order::Switch));
    assert_eq!(machine.state().proxy(), Some(0));
}
