//! The bridge's relay, with the release binary and both ends in the test's hands: what one end
//! does, the other meets, and nothing is lost on the way.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use harness::bridged::Bridged;
use harness::ends::{End, Manner, pull, push};

/// How soon one end has heard that the other broke off, and the agent has forgotten both.
const HEARD: Duration = Duration::from_secs(1);

/// More than all buffers on the way hold.
const MUCH: u64 = 8 << 20;

/// `first` ends its words while the other is still speaking, and then listens on.
fn ends_before(first: &impl End, second: &impl End) {
    let (mut first, mut second) = (first.again().unwrap(), second.again().unwrap());
    let mut hears_first = second.again().unwrap();
    let mut hears_second = first.again().unwrap();
    thread::scope(|scope| {
        let by_first = scope.spawn(move || pull(&mut hears_second, Manner::steady(1)));
        let by_second = scope.spawn(move || pull(&mut hears_first, Manner::steady(2)));
        scope.spawn(move || {
            push(&mut first, 0..MUCH, Manner::steady(3)).unwrap();
            first.finish().unwrap();
        });
        // Speaks until it has read that end, and then says as much again.
        let mut said = 0;
        while said < MUCH || !by_second.is_finished() {
            push(&mut second, said..said + (1 << 20), Manner::steady(4)).unwrap();
            said += 1 << 20;
        }
        assert_eq!(by_second.join().unwrap().unwrap(), MUCH);
        push(&mut second, said..said + MUCH, Manner::steady(5)).unwrap();
        second.finish().unwrap();
        assert_eq!(by_first.join().unwrap().unwrap(), said + MUCH);
    });
}

#[test]
fn either_end_may_be_the_first_to_end_its_words_and_hears_all_of_the_others() {
    let bridged = Bridged::new().unwrap();
    let before = bridged.usage().unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        let (user, service) = bridged.connect().unwrap();
        ends_before(&user, &service);
        drop((user, service));
        let (user, service) = bridged.connect().unwrap();
        ends_before(&service, &user);
        drop((user, service));
        // With nothing in flight, the end itself is all there is to carry.
        let (mut user, mut service) = bridged.connect().unwrap();
        user.finish().unwrap();
        assert_eq!(service.read(&mut [0]).unwrap(), 0);
        service.finish().unwrap();
        assert_eq!(user.read(&mut [0]).unwrap(), 0);
        // Both have ended, and neither has closed: that is enough.
        bridged.wait_closed(&before, HEARD).unwrap();
    }
    println!("{:?}", start.elapsed());
}

/// A user who has said all and does not listen closes altogether. All of it arrives, though the
/// service is slow to read, and has a word for the user in between, which nobody hears.
#[test]
fn what_was_said_before_a_close_arrives() {
    let bridged = Bridged::new().unwrap();
    let before = bridged.usage().unwrap();
    let (mut user, mut service) = bridged.connect().unwrap();
    // What fits into the buffers on the way.
    let said = 256 << 10;
    push(&mut user, 0..said, Manner::steady(1)).unwrap();
    drop(user);
    service.write_all(b"too late").unwrap();
    assert_eq!(pull(&mut service, Manner::stalling(2)).unwrap(), said);
    drop(service);
    bridged.wait_closed(&before, HEARD).unwrap();
}

/// What flows when one end breaks off.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// A byte has gone each way, and nothing since.
    Nothing,
    /// The other end speaks, and is read.
    ToBreaker,
    /// The other end reads what the breaker says.
    FromBreaker,
    /// The breaker has filled all buffers, and nobody reads: nobody but the kernel says so.
    Unread,
}

/// `breaker` breaks off in the middle of `flow`; returns how long the other end took to hear of it.
fn breaks_off(breaker: impl End, other: &impl End, flow: Flow) -> Duration {
    let mut breaker = breaker;
    let mut other = other.again().unwrap();
    // Both ends are there, and the relay with them.
    other.write_all(b"x").unwrap();
    breaker.read_exact(&mut [0]).unwrap();
    let enough = 2 << 20;
    let mut done = match flow {
        Flow::Nothing => None,
        Flow::ToBreaker => {
            let mut speaks = other.again().unwrap();
            let speaker = thread::spawn(move || while speaks.write_all(&[0; 1 << 16]).is_ok() {});
            breaker.read_exact(&mut vec![0; enough]).unwrap();
            Some(speaker)
        }
        Flow::FromBreaker => {
            let mut speaks = breaker.again().unwrap();
            let speaker = thread::spawn(move || {
                // Ends by itself: the handle must not outlive the reset.
                let _ = speaks.write_all(&vec![0; enough]);
            });
            other.read_exact(&mut vec![0; enough]).unwrap();
            speaker.join().unwrap();
            None
        }
        Flow::Unread => {
            breaker.limit(Duration::from_millis(200)).unwrap();
            while breaker.write_all(&[0; 1 << 16]).is_ok() {}
            None
        }
    };
    // A byte that it leaves unread makes a reset of a Unix socket's close. Where the other end
    // speaks there are enough, and no room for one more.
    if !matches!(flow, Flow::ToBreaker) {
        other.write_all(b"x").unwrap();
    }
    breaker.reset().unwrap();
    let start = Instant::now();
    if let Some(speaker) = done.take() {
        speaker.join().unwrap();
    } else if !matches!(flow, Flow::Unread) {
        while matches!(other.read(&mut [0; 1 << 16]), Ok(1..)) {}
    }
    start.elapsed()
}

#[test]
fn an_end_that_breaks_off_is_heard_at_the_other_whatever_flows() {
    let bridged = Bridged::new().unwrap();
    let before = bridged.usage().unwrap();
    let (mut bystander, mut peer) = bridged.connect().unwrap();
    let with_bystander = bridged.usage().unwrap();
    let mut worst = Duration::ZERO;
    for flow in [
        Flow::Nothing,
        Flow::ToBreaker,
        Flow::FromBreaker,
        Flow::Unread,
    ] {
        for who in ["user", "service"] {
            let (user, service) = bridged.connect().unwrap();
            let took = match who {
                "user" => {
                    let took = breaks_off(user, &service, flow);
                    gone(&bridged);
                    drop(service);
                    took
                }
                _ => {
                    let took = breaks_off(service, &user, flow);
                    gone(&bridged);
                    drop(user);
                    took
                }
            };
            println!("{flow:?}: the {who} breaks off, heard after {took:?}");
            worst = worst.max(took);
            bridged.wait_descriptors(&with_bystander, HEARD).unwrap();
        }
    }
    peer.write_all(b"x").unwrap();
    bystander.read_exact(&mut [0]).unwrap();
    drop((bystander, peer));
    bridged.wait_closed(&before, HEARD).unwrap();
    assert!(worst <= HEARD, "{worst:?}");
}

/// Only the bystander is left, though the other end has not closed yet.
fn gone(bridged: &Bridged) {
    bridged.wait_open(1, HEARD).unwrap();
}

#[test]
fn single_bytes_keep_their_order_and_number() {
    const COUNT: u64 = 50_000;
    let bridged = Bridged::new().unwrap();
    let (user, service) = bridged.connect().unwrap();
    service.set_nodelay(true).unwrap();
    fn speak(mut end: impl End) {
        for byte in 0..COUNT {
            push(&mut end, byte..byte + 1, Manner::steady(byte)).unwrap();
        }
        end.finish().unwrap();
    }
    let start = Instant::now();
    let (mut from_service, mut from_user) = (user.again().unwrap(), service.again().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || speak(user));
        scope.spawn(move || speak(service));
        let inward = scope.spawn(move || pull(&mut from_user, Manner::steady(1)));
        assert_eq!(pull(&mut from_service, Manner::steady(2)).unwrap(), COUNT);
        assert_eq!(inward.join().unwrap().unwrap(), COUNT);
    });
    println!("{COUNT} bytes each way in {:?}", start.elapsed());
}

#[test]
fn a_gibibyte_each_way_survives_pauses_of_all_four() {
    const ALL: u64 = 1 << 30;
    let bridged = Bridged::new().unwrap();
    let before = bridged.usage().unwrap();
    let (user, service) = bridged.connect().unwrap();
    let start = Instant::now();
    fn speak(mut end: impl End, seed: u64) {
        push(&mut end, 0..ALL, Manner::stalling(seed)).unwrap();
        end.finish().unwrap();
    }
    let (mut from_service, mut from_user) = (user.again().unwrap(), service.again().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || speak(user, 1));
        scope.spawn(move || speak(service, 2));
        let inward = scope.spawn(move || pull(&mut from_user, Manner::stalling(3)));
        assert_eq!(pull(&mut from_service, Manner::stalling(4)).unwrap(), ALL);
        assert_eq!(inward.join().unwrap().unwrap(), ALL);
    });
    println!("1 GiB each way in {:?}", start.elapsed());
    bridged.wait_closed(&before, HEARD).unwrap();
}
