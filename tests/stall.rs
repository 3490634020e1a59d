//! One connection whose reader stops, or is slow, costs nobody else anything.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::fault::Frozen;
use harness::limits::SOON;
use harness::load::{Stream, fill};
use harness::service::Service;
use harness::usage::Usage;
use harness::wait;

const SLICE: Duration = Duration::from_millis(250);

/// How many bytes each stream moved in each slice of a period.
fn measure(streams: &[Stream], slices: usize) -> Vec<Vec<u64>> {
    let count = || streams.iter().map(Stream::arrived).collect::<Vec<_>>();
    let mut last = count();
    let mut due = Instant::now();
    (0..slices)
        .map(|_| {
            due += SLICE;
            // The one place where time itself is what is measured against.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = count();
            let moved = now.iter().zip(&last).map(|(now, last)| now - last);
            let moved = moved.collect();
            last = now;
            moved
        })
        .collect()
}

fn sums(slices: &[Vec<u64>]) -> Vec<u64> {
    slices
        .iter()
        .map(|slice| slice.iter().sum::<u64>() >> 20)
        .collect()
}

fn median(slices: &[Vec<u64>]) -> u64 {
    let mut values = sums(slices);
    values.sort_unstable();
    values[values.len() / 2]
}

/// The slices in which one of the streams moved nothing.
fn starved(slices: &[Vec<u64>]) -> usize {
    slices.iter().flatten().filter(|moved| **moved == 0).count()
}

/// A connection into which the user pushes all it takes, and its reader's end.
fn flooded(service: &Service) -> (JoinHandle<()>, TcpStream) {
    let (mut user, server) = service.connect().unwrap();
    user.set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let flood = std::thread::spawn(move || {
        let _ = fill(&mut user);
    });
    (flood, server)
}

/// An agent that leaves its session unread while one channel waits shows slices in which nothing
/// moves on the others.
#[test]
fn nine_others_go_on_at_full_speed_beside_a_reader_that_stops_and_a_slow_one() {
    let service = Service::new().unwrap();
    let nine: Vec<Stream> = (0..9)
        .map(|_| {
            let (user, server) = service.connect().unwrap();
            Stream::start(user, server).unwrap()
        })
        .collect();
    let flows = || nine.iter().all(|stream| stream.arrived() > 0);
    wait::until("bytes of all nine", SOON, || flows().then_some(())).unwrap();
    let before = measure(&nine, 8);
    let (first, unread) = flooded(&service);
    let stopped = measure(&nine, 12);
    drop(unread);
    let (second, mut server) = flooded(&service);
    let reading = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&reading);
    let slow = std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while goes_on.load(Relaxed) && matches!(server.read(&mut buffer), Ok(1..)) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let slowed = measure(&nine, 12);
    reading.store(false, Relaxed);
    let after = measure(&nine, 8);
    for (name, slices) in [
        ("before", &before),
        ("beside one that is not read", &stopped),
        ("beside one that is read slowly", &slowed),
        ("after", &after),
    ] {
        println!("{name}: MiB in each {SLICE:?}: {:?}", sums(slices));
    }
    println!("{:?}", Usage::of(service.agent.id()).unwrap());
    drop(nine);
    drop(service);
    for thread in [first, second, slow] {
        thread.join().unwrap();
    }
    let usual = median(&before);
    for slices in [&stopped, &slowed] {
        let then = median(slices);
        assert!(then * 2 > usual, "{usual} MiB before, {then} MiB then");
        // A busy machine may keep one of the test's own threads waiting for a slice.
        let (waited, usual) = (starved(slices), starved(&before));
        assert!(
            waited <= 2 * usual,
            "the others waited: {waited}, {usual} before"
        );
    }
}

/// As sshd 9.2 is by a thousand uploads that begin together: for so long it moves what it has
/// gathered from one place of its memory to another, and hears no keepalive.
#[test]
fn an_sshd_that_is_busy_with_itself_for_eleven_seconds_costs_no_session() {
    let service = Service::new().unwrap();
    let (user, server) = service.connect().unwrap();
    for end in [&user, &server] {
        // They wait for it as well.
        end.set_write_timeout(Some(SOON)).unwrap();
        end.set_read_timeout(Some(SOON)).unwrap();
    }
    let stream = Stream::start(user, server).unwrap();
    let flows_beyond = |bytes| {
        let more = || (stream.arrived() > bytes).then_some(());
        wait::until("more of the upload", SOON, more).unwrap();
    };
    flows_beyond(0);
    let busy = Frozen::new(&service.scene.proxy.sessions().unwrap()).unwrap();
    // The fault is its length.
    std::thread::sleep(Duration::from_secs(11));
    let before = stream.arrived();
    drop(busy);
    flows_beyond(before);
    let status = service.agent.status().unwrap();
    assert_eq!(status["tunnel"]["state"], "up", "{status:#}");
    let logins = service.scene.proxy.log();
    assert_eq!(logins.matches("Accepted publickey").count(), 1, "{logins}");
}
