use super::*;

type Sender = watch::Sender<Option<(Instant, Answer)>>;

const FIRST: ResolvConf = Some((1, 1, 1));
const SECOND: ResolvConf = Some((1, 2, 1));

/// A table of lookups, and the threads that they would be.
struct World {
    lookups: Lookups,
    threads: Vec<Sender>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            lookups: Lookups(Vec::new()),
            threads: Vec::new(),
            now: Instant::now(),
        }
    }

    fn join(&mut self, host: &str, resolv_conf: ResolvConf) -> Awaited {
        let threads = &mut self.threads;
        let ask = |_, sender| threads.push(sender);
        self.lookups.join(host, self.now, resolv_conf, ask)
    }

    fn answer(&self, thread: usize, answer: Answer) {
        self.threads[thread].send_replace(Some((self.now, answer)));
    }
}

fn found() -> Answer {
    Ok(vec![([192, 0, 2, 1], 0).into()])
}

fn answer_of(awaited: &Awaited) -> Option<Answer> {
    awaited.borrow().as_ref().map(|(_, answer)| answer.clone())
}

#[test]
fn attempts_join_the_lookup_of_their_name_that_is_under_way() {
    let mut world = World::new();
    let first = world.join("a", FIRST);
    for _ in 0..100 {
        world.join("a", FIRST);
    }
    let second = world.join("a", FIRST);
    let other = world.join("b", FIRST);
    assert_eq!(world.threads.len(), 2, "one for each name");
    world.answer(0, found());
    assert_eq!(answer_of(&first), Some(found()));
    assert_eq!(answer_of(&second), Some(found()));
    assert_eq!(answer_of(&other), None);
}

#[test]
fn an_answer_is_used_once_and_the_next_attempt_asks_again() {
    let mut world = World::new();
    world.join("a", FIRST);
    world.answer(0, found());
    world.lookups.answered("a");
    world.join("a", FIRST);
    assert_eq!(world.threads.len(), 2);
}

#[test]
fn an_answer_that_nobody_awaited_is_left_for_the_next_attempt() {
    let mut world = World::new();
    drop(world.join("a", FIRST));
    world.answer(0, found());
    world.now += LEFT / 2;
    let next = world.join("a", FIRST);
    assert_eq!(answer_of(&next), Some(found()));
    assert_eq!(world.threads.len(), 1);
    // It is old now.
    world.now += LEFT;
    assert_eq!(answer_of(&world.join("a", FIRST)), None);
    assert_eq!(world.threads.len(), 2);
    // A failure is left to nobody.
    world.answer(1, Err("no".to_owned()));
    assert_eq!(answer_of(&world.join("a", FIRST)), None);
    assert_eq!(world.threads.len(), 3);
}

#[test]
fn a_changed_network_begins_another_lookup_and_threads_are_bounded() {
    let mut world = World::new();
    let before = world.join("a", FIRST);
    world.lookups.outdate();
    let after = world.join("a", FIRST);
    assert_eq!(world.threads.len(), 2);
    world.answer(1, found());
    assert_eq!(
        (answer_of(&before), answer_of(&after)),
        (None, Some(found()))
    );
    for _ in 0..100 {
        world.lookups.outdate();
        world.join("a", SECOND);
    }
    assert_eq!(world.threads.len(), MOST + 1, "one of them has ended");
    // Addresses of the network before are not used.
    world.answer(0, found());
    assert_eq!(answer_of(&world.join("a", SECOND)), None);
}

#[test]
fn a_lookup_that_never_returns_is_replaced_and_threads_are_bounded() {
    let mut world = World::new();
    world.join("a", FIRST);
    world.now += STUCK - Duration::from_secs(1);
    world.join("a", FIRST);
    assert_eq!(world.threads.len(), 1, "a slow one is joined");
    world.now += Duration::from_secs(1);
    let second = world.join("a", FIRST);
    assert_eq!(world.threads.len(), 2, "a stuck one is not");
    // The slow answer of a stuck lookup is of use.
    world.now += STUCK;
    world.answer(1, found());
    assert_eq!(answer_of(&second), Some(found()));
    assert_eq!(answer_of(&world.join("a", FIRST)), Some(found()));
    world.lookups.answered("a");
    world.join("a", FIRST);
    assert_eq!(world.threads.len(), 3);
    // One of these threads has ended. Those that are lost leave room for others.
    world.now += LOST;
    for _ in 0..10 {
        world.lookups.outdate();
        world.join("a", FIRST);
    }
    assert_eq!(world.threads.len(), 3 + MOST);
    for _ in 0..100 {
        world.now += LOST;
        world.join("a", FIRST);
    }
    assert_eq!(world.threads.len(), THREADS + 1);
    // A name without a lookup has an answer at once, and a lookup as soon as a thread ends.
    assert!(world.join("b", FIRST).has_changed().is_err());
    assert_eq!(world.threads.len(), THREADS + 1);
    world.answer(0, found());
    assert!(world.join("b", FIRST).has_changed().is_ok());
    assert_eq!(world.threads.len(), THREADS + 2);
}

#[test]
fn another_resolv_conf_begins_another_lookup() {
    let mut world = World::new();
    world.join("a", FIRST);
    world.join("a", SECOND);
    world.join("a", SECOND);
    assert_eq!(world.threads.len(), 2);
}

#[test]
fn a_thread_that_never_was_is_no_lookup() {
    let mut world = World::new();
    world.join("a", FIRST);
    world.threads.clear();
    world.join("a", FIRST);
    assert_eq!(world.threads.len(), 1);
}

#[tokio::test]
async fn addresses_are_their_own_answer_and_names_are_looked_up() {
    let address = |text: &str| vec![SocketAddr::new(text.parse().unwrap(), 0)];
    assert_eq!(lookup("192.0.2.7").await, Ok(address("192.0.2.7")));
    assert_eq!(lookup("2001:db8::7").await, Ok(address("2001:db8::7")));
    let localhost = lookup("localhost").await.unwrap();
    assert!(localhost.iter().all(|address| address.ip().is_loopback()));
    // RFC 6761, 6.4: never a name.
    lookup("name.invalid").await.unwrap_err();
    let left = lookups()
        .0
        .iter()
        .filter(|l| l.host == "name.invalid")
        .count();
    assert_eq!(left, 0);
}
