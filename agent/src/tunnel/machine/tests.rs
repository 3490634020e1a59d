mod proof;
mod properties;
mod proxies;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn machine(seed: u64) -> Machine {
    Machine::new(Timing::default(), fastrand::Rng::with_seed(seed))
}

fn lost() -> Fault {
    Fault::KeepaliveLost {
        proxy: "proxy:22".to_owned(),
        after: 15 * SECOND,
    }
}

fn refused_dial() -> Fault {
    Fault::DialFailed {
        proxy: "proxy:22".to_owned(),
        detail: String::new(),
    }
}

fn rejected() -> Fault {
    Fault::AuthRejected {
        proxy: "proxy:22".to_owned(),
        user: "tunnel".to_owned(),
        detail: String::new(),
    }
}

fn held() -> Fault {
    Fault::PortHeld {
        proxy: "proxy:22".to_owned(),
        bind: "0.0.0.0".to_owned(),
        port: 1,
        detail: "",
    }
}

fn denied() -> Fault {
    Fault::ForwardDenied {
        proxy: "proxy:22".to_owned(),
        bind: "0.0.0.0".to_owned(),
        port: 1,
    }
}

fn refused(fault: Fault, shared: bool) -> Input {
    Input::Refused { fault, shared }
}

fn unreachable() -> Fault {
    Fault::NotReachable {
        target: "proxy:1".to_owned(),
        detail: String::new(),
        refused: true,
    }
}

/// A firewall that drops what this guest sends to the port.
fn dropped() -> Fault {
    Fault::NotReachable {
        target: "proxy:1".to_owned(),
        detail: String::new(),
        refused: false,
    }
}

fn unproven() -> Probe {
    Probe::Untried(Fault::Unproven {
        detail: String::new(),
    })
}

fn no_sshd() -> Fault {
    Fault::SshdDown {
        address: "127.0.0.1:22".to_owned(),
        detail: String::new(),
    }
}

/// The state without its times.
fn name(state: &State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Opening { .. } => "opening",
        State::PortHeld { .. } => "port-held",
        State::Proving { .. } => "proving",
        State::Up { .. } => "up",
        State::Waiting { .. } => "waiting",
        State::Closing { .. } => "closing",
    }
}

/// The inputs that lead from rest to each state.
fn path(state: &str) -> Vec<Input> {
    let wanted = Input::Wanted(1);
    match state {
        "idle" => vec![],
        "opening" => vec![wanted],
        "port-held" => vec![wanted, refused(held(), false)],
        "proving" => vec![wanted, Input::Granted(1)],
        "up" => vec![wanted, Input::Granted(1), Input::Probed(Probe::Answered)],
        "waiting" => vec![wanted, Input::Ended(lost())],
        "closing" => vec![wanted, Input::Wanted(0)],
        other => panic!("no path to {other}"),
    }
}

fn enter(machine: &mut Machine, now: Instant, state: &str) {
    for input in path(state) {
        machine.step(now, input);
    }
    assert_eq!(name(machine.state()), state);
}

/// Every state with every input: the state that follows, and the order.
#[test]
fn transitions() {
    use Order::{Close, Open, Probe as ProbeNow, Request};
    let inputs = [
        Input::Wanted(0),
        Input::Wanted(1),
        Input::Granted(1),
        refused(held(), false),
        Input::Probed(Probe::Answered),
        Input::Probed(unproven()),
        Input::Probed(Probe::Failed(unreachable())),
        Input::Ended(lost()),
        Input::Nudge,
        Input::Tick,
        refused(denied(), false),
        refused(denied(), true),
        Input::Scouted(Err(lost())),
        Input::Probed(Probe::Carried),
        Input::Woken,
        Input::InUse(true),
    ];
    type Row = (&'static str, [(&'static str, Option<Order>); 16]);
    #[rustfmt::skip]
    let table: [Row; 7] = [
        ("idle",      [("idle", None), ("opening", Some(Open(0))), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None)]),
        ("opening",   [("closing", Some(Close)), ("closing", Some(Close)), ("proving", Some(ProbeNow)), ("port-held", None), ("opening", None), ("opening", None), ("opening", None), ("waiting", None), ("opening", None), ("closing", Some(Close)), ("closing", Some(Close)), ("port-held", None), ("opening", None), ("opening", None), ("opening", None), ("opening", None)]),
        ("port-held", [("closing", Some(Close)), ("closing", Some(Close)), ("proving", Some(ProbeNow)), ("port-held", None), ("port-held", None), ("port-held", None), ("port-held", None), ("waiting", None), ("port-held", Some(Request)), ("port-held", Some(Request)), ("closing", Some(Close)), ("port-held", None), ("port-held", None), ("port-held", None), ("port-held", Some(Request)), ("port-held", None)]),
        ("proving",   [("closing", Some(Close)), ("closing", Some(Close)), ("proving", None), ("proving", None), ("up", None), ("up", None), ("proving", None), ("waiting", None), ("proving", Some(ProbeNow)), ("proving", Some(ProbeNow)), ("proving", None), ("proving", None), ("proving", None), ("up", None), ("proving", Some(ProbeNow)), ("proving", None)]),
        ("up",        [("closing", Some(Close)), ("closing", Some(Close)), ("up", None), ("up", None), ("up", None), ("up", None), ("up", None), ("waiting", None), ("up", Some(ProbeNow)), ("up", Some(ProbeNow)), ("up", None), ("up", None), ("up", None), ("up", None), ("up", Some(ProbeNow)), ("up", None)]),
        ("waiting",   [("idle", None), ("opening", Some(Open(0))), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("opening", Some(Open(0))), ("opening", Some(Open(0))), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("opening", Some(Open(0))), ("waiting", None)]),
        ("closing",   [("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("idle", None), ("closing", None), ("idle", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None)]),
    ];
    for (from, row) in table {
        for (input, expected) in inputs.iter().zip(row) {
            let start = Instant::now();
            let mut machine = machine(1);
            enter(&mut machine, start, from);
            // A tick is only felt once it is due.
            let due = machine.deadline().unwrap_or(start);
            let now = if *input == Input::Tick { due } else { start };
            let order = machine.step(now, input.clone());
            assert_eq!(
                (name(machine.state()), order),
                expected,
                "{from} and {input:?}"
            );
        }
    }
}

/// Fails `rounds` times in a row; returns the longest delay.
fn longest_delay(machine: &mut Machine, fault: &Fault, rounds: usize) -> Duration {
    let mut now = Instant::now();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        machine.step(now, Input::Ended(fault.clone()));
        let due = machine.deadline().unwrap();
        longest = longest.max(due.duration_since(now));
        now = due;
        machine.step(now, Input::Tick);
    }
    longest
}

#[test]
fn each_kind_of_fault_has_its_own_pace() {
    let timing = Timing::default();
    for (fault, cap) in [
        (refused_dial(), timing.free_cap),
        (lost(), timing.retry_cap),
        (rejected(), timing.slow_cap),
    ] {
        let mut machine = machine(1);
        machine.step(Instant::now(), Input::Wanted(1));
        let longest = longest_delay(&mut machine, &fault, 200);
        assert!(longest > cap.mul_f64(0.6) && longest <= cap, "{longest:?}");
    }
}

/// A machine that has failed so often that its delays have grown, and is up now at `now`.
fn tired_and_up(now: Instant, probe: Probe) -> Machine {
    let mut machine = machine(1);
    machine.step(now - 100_000 * SECOND, Input::Wanted(1));
    longest_delay(&mut machine, &lost(), 50);
    machine.step(now, Input::Granted(1));
    machine.step(now, Input::Probed(probe));
    assert_eq!(machine.attempt(), 0);
    machine
}

/// The delay after the next attempt, which fails.
fn next_delay(machine: &mut Machine) -> Duration {
    let due = machine.deadline().unwrap();
    machine.step(due, Input::Tick);
    machine.step(due, Input::Ended(lost()));
    machine.deadline().unwrap().duration_since(due)
}

#[test]
fn the_first_attempt_after_a_loss_is_spread_and_the_delays_start_over_on_proven_health() {
    let base = Timing::default().retry_base;
    for (probe, alive, starts_over) in [
        (Probe::Answered, SECOND, true),
        (unproven(), 29 * SECOND, false),
        (unproven(), 30 * SECOND, true),
    ] {
        let now = Instant::now() + 200_000 * SECOND;
        let mut machine = tired_and_up(now, probe);
        let gone = now + alive;
        machine.step(gone, Input::Ended(lost()));
        // One that lived shortly and was never proven counts as a failed attempt.
        let timing = Timing::default();
        let longest = if starts_over {
            timing.spread
        } else {
            timing.retry_cap
        };
        assert!(machine.deadline().unwrap() <= gone + longest);
        // The seed makes both delays what they are: far from the edge between them.
        let delay = next_delay(&mut machine);
        assert_eq!(delay <= base, starts_over, "{delay:?}");
    }
}

/// Virtual time: after ten minutes of a proxy that drops everything.
#[test]
fn after_a_long_silence_news_help_at_once_and_the_clock_within_one_step() {
    let start = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, start, "up");
    let mut now = start + 14 * SECOND;
    machine.step(now, Input::Ended(lost()));
    while now < start + 600 * SECOND {
        now = machine.deadline().unwrap();
        assert_eq!(machine.step(now, Input::Tick), Some(Order::Open(0)));
        now += Timing::default().dial;
        machine.step(now, Input::Ended(lost()));
    }
    let step = machine.deadline().unwrap().duration_since(now);
    assert!(step <= Timing::default().retry_cap, "{step:?}");
    assert_eq!(machine.step(now, Input::Nudge), Some(Order::Open(0)));
}

#[test]
fn a_held_port_is_asked_for_every_two_seconds_while_it_may_be_a_ghost_and_then_every_five() {
    let start = Instant::now();
    let mut now = start;
    let mut machine = machine(1);
    enter(&mut machine, now, "port-held");
    while now < start + 600 * SECOND {
        let due = machine.deadline().unwrap();
        let ghost = now < start + 240 * SECOND;
        let longest = if ghost { 1800 } else { 5000 };
        let pause = due.duration_since(now);
        assert!(pause <= Duration::from_millis(longest));
        // At first it is one that we have just reset ourselves.
        assert!(pause >= SECOND / 2 || now < start + 2 * SECOND);
        now = due;
        assert_eq!(machine.step(now, Input::Tick), Some(Order::Request));
        machine.step(now, refused(held(), false));
    }
}

#[test]
fn a_denied_forward_does_not_cost_the_others_their_session() {
    let now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(1));
    assert_eq!(machine.step(now, refused(denied(), true)), None);
    assert!(machine.deadline().unwrap() >= now + 60 * SECOND);
    // Somebody may have mended it; the proxy reads its rules at the login.
    assert_eq!(machine.step(now, Input::Nudge), Some(Order::Close));
    let order = machine.step(now, Input::Ended(Fault::Stopped));
    assert_eq!(order, Some(Order::Open(0)));
}

/// OpenSSH refuses an address from 15 s of penalty on, and a failed login adds 5 s.
#[test]
fn a_rejected_key_is_tried_as_often_as_penalties_forgive_for_two_minutes_and_then_seldom() {
    let start = Instant::now();
    let mut now = start;
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(1));
    let mut logins = 0;
    while now < start + 120 * SECOND {
        machine.step(now, Input::Ended(rejected()));
        logins += 1;
        let due = machine.deadline().unwrap();
        let pause = due.duration_since(now);
        assert!(pause >= 6 * SECOND && pause <= 8 * SECOND, "{pause:?}");
        now = due;
        // Time that jumps is no reason to come sooner.
        assert_eq!(machine.step(now - SECOND, Input::Woken), None);
        machine.step(now, Input::Tick);
    }
    assert!((15..=20).contains(&logins), "{logins}");
    while now < start + 3600 * SECOND {
        machine.step(now, Input::Ended(rejected()));
        logins += 1;
        now = machine.deadline().unwrap();
        machine.step(now, Input::Tick);
    }
    assert!(logins < 60, "{logins} in an hour");
}

#[test]
fn a_denied_forward_does_not_cost_those_who_use_the_others_their_connections() {
    let now = Instant::now();
    let mut machine = machine(1);
    machine.step(now, Input::Wanted(1));
    machine.step(now, refused(denied(), true));
    machine.step(now, Input::InUse(true));
    for input in [Input::Nudge, refused(denied(), false), Input::Tick] {
        assert_ne!(machine.step(now, input), Some(Order::Close));
    }
    machine.step(now, Input::InUse(false));
    assert_eq!(machine.step(now, Input::Nudge), Some(Order::Close));
}
