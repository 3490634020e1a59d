use proptest::prelude::*;

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
    }
}

fn unreachable() -> Fault {
    Fault::NotReachable {
        target: "proxy:1".to_owned(),
        detail: String::new(),
    }
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
        "port-held" => vec![wanted, Input::Refused(held())],
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
        Input::Refused(held()),
        Input::Probed(Probe::Answered),
        Input::Probed(Probe::Forbidden),
        Input::Probed(Probe::Failed(unreachable())),
        Input::Ended(lost()),
        Input::Nudge,
        Input::Tick,
    ];
    type Row = (&'static str, [(&'static str, Option<Order>); 10]);
    #[rustfmt::skip]
    let table: [Row; 7] = [
        ("idle",      [("idle", None), ("opening", Some(Open(0))), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None), ("idle", None)]),
        ("opening",   [("closing", Some(Close)), ("closing", Some(Close)), ("proving", Some(ProbeNow)), ("port-held", None), ("opening", None), ("opening", None), ("opening", None), ("waiting", None), ("opening", None), ("closing", Some(Close))]),
        ("port-held", [("closing", Some(Close)), ("closing", Some(Close)), ("proving", Some(ProbeNow)), ("port-held", None), ("port-held", None), ("port-held", None), ("port-held", None), ("waiting", None), ("port-held", Some(Request)), ("port-held", Some(Request))]),
        ("proving",   [("closing", Some(Close)), ("closing", Some(Close)), ("proving", None), ("proving", None), ("up", None), ("up", None), ("proving", None), ("waiting", None), ("proving", Some(ProbeNow)), ("proving", Some(ProbeNow))]),
        ("up",        [("closing", Some(Close)), ("closing", Some(Close)), ("up", None), ("up", None), ("up", None), ("up", None), ("up", None), ("waiting", None), ("up", Some(ProbeNow)), ("up", Some(ProbeNow))]),
        ("waiting",   [("idle", None), ("opening", Some(Open(0))), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("waiting", None), ("opening", Some(Open(0))), ("opening", Some(Open(0)))]),
        ("closing",   [("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("closing", None), ("idle", None), ("closing", None), ("idle", None)]),
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

#[test]
fn two_failed_probes_in_a_row_take_it_down_and_one_does_not() {
    let now = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, now, "up");
    machine.step(now, Input::Probed(Probe::Failed(unreachable())));
    assert_eq!(name(machine.state()), "up");
    machine.step(now, Input::Probed(Probe::Answered));
    machine.step(now, Input::Probed(Probe::Failed(unreachable())));
    assert_eq!(name(machine.state()), "up");
    machine.step(now, Input::Probed(Probe::Failed(unreachable())));
    assert_eq!(name(machine.state()), "proving");
}

#[test]
fn an_unproven_forward_is_requested_on_a_new_session_in_the_end() {
    let mut now = Instant::now();
    let mut machine = machine(1);
    enter(&mut machine, now, "proving");
    let mut order = None;
    while order != Some(Order::Close) {
        now = machine.deadline().unwrap();
        order = machine.step(now, Input::Tick);
        machine.step(now, Input::Probed(Probe::Failed(unreachable())));
    }
    machine.step(now, Input::Ended(Fault::Stopped));
    assert!(matches!(machine.state(), State::Waiting { fault, .. } if *fault == unreachable()));
}

#[test]
fn a_missing_sshd_never_costs_the_session() {
    let start = Instant::now();
    let mut now = start;
    let mut machine = machine(1);
    enter(&mut machine, now, "proving");
    while now.duration_since(start) < 3600 * SECOND {
        assert_eq!(
            machine.step(now, Input::Probed(Probe::Failed(no_sshd()))),
            None
        );
        now = machine.deadline().unwrap();
        assert_eq!(machine.step(now, Input::Tick), Some(Order::Probe));
    }
    machine.step(now, Input::Probed(Probe::Answered));
    assert_eq!(name(machine.state()), "up");
}

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
fn what_needs_a_person_is_retried_slowly_and_what_heals_soon() {
    let mut soon = machine(1);
    soon.step(Instant::now(), Input::Wanted(1));
    let longest = longest_delay(&mut soon, &lost(), 200);
    assert!(
        longest > 20 * SECOND && longest <= 30 * SECOND,
        "{longest:?}"
    );
    let mut slow = machine(1);
    slow.step(Instant::now(), Input::Wanted(1));
    let longest = longest_delay(&mut slow, &rejected(), 200);
    assert!(
        longest > 200 * SECOND && longest <= 300 * SECOND,
        "{longest:?}"
    );
}

#[test]
fn only_a_healthy_tunnel_starts_the_delays_over() {
    for (alive, starts_over) in [(29 * SECOND, false), (30 * SECOND, true)] {
        let mut machine = machine(1);
        machine.step(Instant::now(), Input::Wanted(1));
        longest_delay(&mut machine, &lost(), 50);
        let now = Instant::now() + 100_000 * SECOND;
        machine.step(now, Input::Granted(1));
        machine.step(now, Input::Probed(Probe::Answered));
        assert_eq!(machine.attempt(), 0);
        machine.step(now + alive, Input::Ended(lost()));
        let delay = machine.deadline().unwrap().duration_since(now + alive);
        // The seed makes both delays what they are: far from the edge between them.
        assert_eq!(
            delay <= Timing::default().retry_base,
            starts_over,
            "{delay:?}"
        );
    }
}

#[derive(Debug, Clone)]
struct World {
    session: bool,
    probing: bool,
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => Just(Input::Tick),
        1 => (0_usize..4).prop_map(Input::Wanted),
        2 => any::<u16>().prop_map(Input::Granted),
        1 => Just(Input::Refused(held())),
        2 => Just(Input::Probed(Probe::Answered)),
        1 => Just(Input::Probed(Probe::Forbidden)),
        1 => Just(Input::Probed(Probe::Partial(unreachable()))),
        1 => Just(Input::Probed(Probe::Failed(unreachable()))),
        1 => Just(Input::Probed(Probe::Failed(no_sshd()))),
        2 => Just(Input::Ended(lost())),
        1 => Just(Input::Ended(rejected())),
        1 => Just(Input::Nudge),
    ]
}

proptest! {
    /// Whatever happens, in whatever order and however late.
    #[test]
    fn invariants(
        seed: u64,
        steps in proptest::collection::vec((any_input(), 0_u64..100_000), 1..200),
    ) {
        let mut machine = machine(seed);
        let mut now = Instant::now();
        let mut sessions = 0_i32;
        for (input, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            let backstop = matches!(machine.state(), State::Closing { by, .. } if now >= *by);
            let ended = matches!(input, Input::Ended(_));
            if ended && sessions == 0 {
                continue;
            }
            if ended || (backstop && input == Input::Tick) {
                sessions -= 1;
            }
            let order = machine.step(now, input);
            match order {
                Some(Order::Open(_)) => sessions += 1,
                Some(Order::Request | Order::Probe | Order::Close) => {
                    prop_assert_eq!(sessions, 1, "an order without a session");
                }
                None => {}
            }
            prop_assert!(sessions <= 1, "two sessions");
            let alive = !matches!(machine.state(), State::Idle | State::Waiting { .. });
            prop_assert_eq!(sessions == 1, alive);
            let idle = matches!(machine.state(), State::Idle);
            prop_assert_eq!(machine.deadline().is_none(), idle);
            if let State::Waiting { since, until, fault } = machine.state() {
                let cap = match fault.pace() {
                    Pace::Soon => Timing::default().retry_cap,
                    Pace::Slow => Timing::default().slow_cap,
                };
                prop_assert!(until.duration_since(*since) <= cap);
            }
        }
    }

    /// From wherever it is, it comes up once the world heals, with nothing but the clock to help.
    #[test]
    fn a_healed_world_leads_to_up(
        seed: u64,
        steps in proptest::collection::vec((any_input(), 0_u64..100_000), 0..100),
    ) {
        let mut machine = machine(seed);
        let mut now = Instant::now();
        let mut world = World { session: false, probing: false };
        let obey = |world: &mut World, order| match order {
            Some(Order::Open(_)) => world.session = true,
            Some(Order::Probe) => world.probing = true,
            Some(Order::Request | Order::Close) | None => {}
        };
        for (input, milliseconds) in steps {
            now += Duration::from_millis(milliseconds);
            if let Input::Ended(_) = input {
                if !world.session {
                    continue;
                }
                world.session = false;
            }
            let order = machine.step(now, input);
            obey(&mut world, order);
        }
        let order = machine.step(now, Input::Wanted(2));
        obey(&mut world, order);
        for _ in 0..50 {
            if matches!(machine.state(), State::Up { .. }) {
                break;
            }
            let input = match machine.state() {
                State::Closing { .. } => Input::Ended(Fault::Stopped),
                State::Opening { .. } | State::PortHeld { .. } => Input::Granted(1),
                State::Proving { .. } if world.probing => {
                    world.probing = false;
                    Input::Probed(Probe::Answered)
                }
                State::Idle | State::Proving { .. } | State::Up { .. } | State::Waiting { .. } => {
                    now = machine.deadline().unwrap_or(now);
                    Input::Tick
                }
            };
            let order = machine.step(now, input);
            obey(&mut world, order);
        }
        prop_assert_eq!(name(machine.state()), "up");
    }
}
