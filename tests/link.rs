//! The link that the tests of bad networks use does what it is told: its rate, delay, loss, queue,
//! order and MTU are measured from the outside.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use harness::link::{DOWN, Link, UP, Way};
use harness::load::Stream;
use harness::netns::Namespace;

/// Two namespaces, and a link between them.
struct Pair {
    link: Link,
    near: Arc<Namespace>,
    far: Arc<Namespace>,
}

impl Pair {
    fn new(ways: [Way; 2]) -> Self {
        let (near, far) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let link = Link::between(&near, &far, ways).unwrap();
        Self { link, near, far }
    }

    /// A socket at each end, each connected to the other.
    fn sockets(&self) -> [UdpSocket; 2] {
        let bind = |namespace: &Namespace, address: IpAddr| {
            let socket = namespace.enter(move || UdpSocket::bind((address, 0)).unwrap());
            let limit = Some(Duration::from_secs(2));
            socket.set_read_timeout(limit).unwrap();
            socket
        };
        let near = bind(&self.near, Link::NEAR);
        let far = bind(&self.far, Link::FAR);
        near.connect(far.local_addr().unwrap()).unwrap();
        far.connect(near.local_addr().unwrap()).unwrap();
        [near, far]
    }

    /// A TCP connection that the near end made.
    fn connection(&self) -> [TcpStream; 2] {
        let listener = self.far.listen(SocketAddr::new(Link::FAR, 0)).unwrap();
        let near = self.near.connect(listener.local_addr().unwrap()).unwrap();
        [near, listener.accept().unwrap().0]
    }
}

/// Waits up to 2 s for a packet. A child of another test that ends interrupts a read with a
/// timeout (signal(7)).
fn receive(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(packet) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sends numbered packets and returns the numbers in the order in which they arrived, up to a
/// silence.
fn flight(from: &UdpSocket, to: &UdpSocket, packets: u32, pace: Duration) -> Vec<u32> {
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..packets {
                from.send(&number.to_le_bytes()).unwrap();
                thread::sleep(pace);
            }
        });
        let mut numbers = Vec::new();
        let mut packet = [0; 4];
        while receive(to, &mut packet).is_ok() {
            numbers.push(u32::from_le_bytes(packet));
        }
        numbers
    })
}

/// The shortest of twenty round trips: a busy machine makes only some of them longer.
fn round_trip([near, far]: &[UdpSocket; 2]) -> Duration {
    let trip = || {
        let sent = Instant::now();
        near.send(b"ping").unwrap();
        receive(far, &mut [0; 8]).unwrap();
        far.send(b"pong").unwrap();
        receive(near, &mut [0; 8]).unwrap();
        sent.elapsed()
    };
    (0..20).map(|_| trip()).min().unwrap_or_default()
}

#[test]
fn each_direction_has_a_rate_of_its_own() {
    let pair = Pair::new([Way::new(1_000_000), Way::new(8_000_000)]);
    for (way, rate) in [(UP, 1_000_000.0), (DOWN, 8_000_000.0)] {
        let [near, far] = pair.connection();
        let (from, to) = if way == UP { (near, far) } else { (far, near) };
        let stream = Stream::start(from, to).unwrap();
        let before = pair.link.counts()[way];
        let start = Instant::now();
        thread::sleep(Duration::from_secs(4));
        let (after, took) = (pair.link.counts()[way], start.elapsed().as_secs_f64());
        let carried = (after.bytes - before.bytes) as f64 * 8.0 / took / rate;
        // What is in the queue counts as carried; a busy machine may carry less.
        assert!((0.7..1.1).contains(&carried), "way {way}: {carried}");
        let arrived = stream.arrived() as f64 * 8.0 / start.elapsed().as_secs_f64() / rate;
        assert!((0.6..1.0).contains(&arrived), "way {way}: {arrived}");
    }
}

#[test]
fn a_packet_takes_the_delay_of_both_directions() {
    let pair = Pair::new([
        Way::new(10_000_000).delay(80),
        Way::new(10_000_000).delay(20),
    ]);
    let took = round_trip(&pair.sockets());
    let allowed = Duration::from_millis(100)..Duration::from_millis(115);
    assert!(allowed.contains(&took), "{took:?}");
    // A change counts from the next packet on.
    pair.link.set([Way::new(10_000_000); 2]).unwrap();
    let took = round_trip(&pair.sockets());
    assert!(took < Duration::from_millis(15), "{took:?}");
}

#[test]
fn a_full_queue_delays_what_it_holds_and_drops_the_rest() {
    // 250 KB are two seconds at this rate.
    let pair = Pair::new([Way::new(1_000_000).queue(500), Way::new(1_000_000)]);
    let [near, far] = pair.sockets();
    let before = Instant::now();
    for _ in 0..250 {
        near.send(&[0; 972]).unwrap();
    }
    let mut arrivals = Vec::new();
    while receive(&far, &mut [0; 1000]).is_ok() {
        arrivals.push(before.elapsed());
    }
    let last = arrivals.last().copied().unwrap_or_default();
    assert!(last >= Duration::from_millis(480), "{last:?}");
    // 62 of 1000 bytes each are half a second; more are taken while the line carries the first.
    let carried = last.as_millis() as usize / 8;
    assert!(
        (60..=carried).contains(&arrivals.len()),
        "{} in {last:?}",
        arrivals.len()
    );
    let dropped = pair.link.counts()[UP].overflowed;
    assert_ne!(dropped, 0);
    assert_eq!(arrivals.len() as u64 + dropped, 250);
}

#[test]
fn packets_are_lost_and_overtake_each_other_as_often_as_asked() {
    let way = Way::new(10_000_000).delay(20);
    let pair = Pair::new([way.loss(0.1), way.reorder(0.2, 15)]);
    let [near, far] = pair.sockets();
    let arrived = flight(&near, &far, 2000, Duration::from_millis(1));
    assert!((1740..=1860).contains(&arrived.len()), "{}", arrived.len());
    assert!(
        arrived.is_sorted(),
        "order is kept where nothing else is asked"
    );
    let arrived = flight(&far, &near, 2000, Duration::from_millis(1));
    assert_eq!(arrived.len(), 2000);
    let overtaken = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((100..=500).contains(&overtaken), "{overtaken}");
}

#[test]
fn packets_above_the_mtu_disappear_without_a_word() {
    let pair = Pair::new([Way::new(10_000_000).mtu(1280), Way::new(10_000_000)]);
    let [near, far] = pair.sockets();
    // 28 bytes are the headers of IPv4 and UDP.
    for length in [1252, 1253, 1472] {
        near.send(&vec![0; length]).unwrap();
    }
    assert_eq!(receive(&far, &mut [0; 1500]).unwrap(), 1252);
    assert!(receive(&far, &mut [0; 1500]).is_err());
    // An ICMP message would be an error here.
    near.send(&[0; 1252]).unwrap();
    assert_eq!(pair.link.counts()[UP].oversized, 2);
    far.send(&[0; 1472]).unwrap();
    assert_eq!(receive(&near, &mut [0; 1500]).unwrap(), 1472);
}

#[test]
fn a_fast_link_has_its_rate() {
    let pair = Pair::new([Way::new(400_000_000); 2]);
    let [near, far] = pair.connection();
    let stream = Stream::start(near, far).unwrap();
    let start = Instant::now();
    thread::sleep(Duration::from_secs(2));
    let arrived = stream.arrived() as f64 * 8.0 / start.elapsed().as_secs_f64();
    assert!(arrived < 410e6, "{arrived}");
    assert!(pair.link.set([Way::new(1_000_000); 2]).is_err());
}
