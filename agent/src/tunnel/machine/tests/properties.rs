//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

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
        1 => Just(refused(held(), false)),
        1 => any::<bool>().prop_map(|shared| refused(denied(), shared)),
        1 => Just(Input::Scouted(Err(lost()))),
        1 => Just(Input::Scouted(Ok((1, Proof::Proven)))),
        2 => Just(Input::Probed(Probe::Answered)),
        5 => any_probe().prop_map(Input::Probed),
        1 => any::<bool>().prop_map(Input::InUse),
        2 => Just(Input::Ended(lost())),
        1 => Just(Input::Ended(refused_dial())),
        1 => Just(Input::Ended(rejected())),
        1 => Just(Input::Nudge),
        1 => Just(Input::Woken),
    ]
}

fn any_probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        Just(Probe::Carried),
        Just(unproven()),
        Just(Probe::Partial(dropped())),
        Just(Probe::Failed(unreachable())),
        Just(Probe::Failed(no_sshd())),
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
            let probed = matches!(input, Input::Probed(_));
            let asked = matches!(input, Input::Wanted(_));
            let (before, in_use) = (machine.state().clone(), machine.in_use);
            let order = machine.step(now, input);
            let closes = order == Some(Order::Close);
            let closing = matches!(machine.state(), State::Closing { .. }) && *machine.state() != before;
            prop_assert!(!(probed && (closes || closing)), "a probe ended the session");
            // What people ask for is done; an attempt that is too slow carries nobody yet.
            let opening = matches!(before, State::Opening { .. });
            prop_assert!(!(in_use && closes) || asked || opening, "users were cut in {:?}", before);
            match order {
                Some(Order::Open(_)) => sessions += 1,
                Some(
                    Order::Request
                    | Order::Probe
                    | Order::Close
                    | Order::Scout(_)
                    | Order::Switch,
                ) => {
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
                // With several proxies, one that heals by itself may be waited for as well.
                let cap = match fault.pace() {
                    Pace::Free => Timing::default().free_cap,
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
            Some(Order::Request | Order::Close | Order::Scout(_) | Order::Switch) | None => {}
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
