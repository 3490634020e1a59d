//! Eight connections that move bytes as fast as they can do not hold up a keystroke on another.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::failure::Result;
use harness::limits::SOON;
use harness::load::{Stream, call};
use harness::scene::Scene;
use harness::service::Service;
use harness::wait;

const BULK: usize = 8;

/// Both ends of a connection.
type Ends = (TcpStream, TcpStream);

/// A way in, both of whose ends are the test's.
trait Way {
    fn connect(&self) -> Ends;
    fn agent(&self) -> &Agent;
}

impl Way for Service {
    fn connect(&self) -> Ends {
        Service::connect(self).unwrap()
    }

    fn agent(&self) -> &Agent {
        &self.agent
    }
}

/// The bridge, with the test in sshd's place.
struct Bridge {
    agent: Agent,
    arrived: mpsc::Receiver<TcpStream>,
    _scene: Scene,
}

const BANNER: &[u8] = b"SSH-2.0-fair\r\n";

impl Bridge {
    fn new() -> Self {
        let scene = Scene::new().unwrap();
        let listener = scene.namespace.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let line = format!("sshd = \"{}\"", listener.local_addr().unwrap());
        let (arrive, arrived) = mpsc::channel();
        // Not joined: it ends with the program.
        thread::spawn(move || take(&listener, &arrive));
        let config = [("bridge", line.as_str())];
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
        let ready = |status: &serde_json::Value| status["bridge"]["state"] == "ready";
        agent.wait_for("ready bridge", SOON, ready).unwrap();
        Self {
            agent,
            arrived,
            _scene: scene,
        }
    }
}

/// Greets all, and hands those of the bridge over.
fn take(listener: &TcpListener, arrive: &mpsc::Sender<TcpStream>) {
    let bridge = IpAddr::from([127, 1, 0, 3]);
    while let Ok((mut stream, from)) = listener.accept() {
        let _ = stream.write_all(BANNER);
        if from.ip() == bridge && arrive.send(stream).is_err() {
            return;
        }
    }
}

impl Way for Bridge {
    fn connect(&self) -> Ends {
        let stream = UnixStream::connect(self.agent.bridge()).unwrap();
        // Reads and writes are the same for both kinds.
        let mut user = TcpStream::from(OwnedFd::from(stream));
        user.read_exact(&mut [0; BANNER.len()]).unwrap();
        (user, self.arrived.recv_timeout(SOON).unwrap())
    }

    fn agent(&self) -> &Agent {
        &self.agent
    }
}

/// One byte there and back, in milliseconds: the median, and what nine of ten do not exceed.
#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    median: f64,
    most: f64,
}

/// Measures it as a person types, a little after the last answer.
fn round_trip(user: &mut TcpStream) -> RoundTrip {
    let mut samples: Vec<f64> = (0..400)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            let begun = Instant::now();
            call(user).unwrap();
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    RoundTrip {
        median: samples[samples.len() / 2],
        most: samples[samples.len() * 9 / 10],
    }
}

/// Sends back each byte as it comes.
fn echo((user, mut server): Ends) -> TcpStream {
    user.set_read_timeout(Some(SOON)).unwrap();
    thread::spawn(move || -> Result<()> {
        let mut byte = [0];
        loop {
            server.read_exact(&mut byte)?;
            server.write_all(&byte)?;
        }
    });
    user
}

/// Fails if a keystroke beside the others takes more than twice its time without them, or, where
/// that is more, than this: a machine that is busy has to wake the test itself. Where the agent
/// waits for a processor for half of the time, all of it may take twice as long.
fn is_fair(name: &str, way: &impl Way, floor: RoundTrip) {
    let mut typist = echo(way.connect());
    let idle = round_trip(&mut typist);
    // Half of them each way.
    let bulk: Vec<Stream> = (0..BULK)
        .map(|index| {
            let (user, server) = way.connect();
            let (from, to) = if index % 2 == 0 {
                (user, server)
            } else {
                (server, user)
            };
            Stream::start(from, to).unwrap()
        })
        .collect();
    let moves = || bulk.iter().all(|stream| stream.arrived() > 0);
    wait::until("bytes of all", SOON, || moves().then_some(())).unwrap();
    let arrived = || bulk.iter().map(Stream::arrived).sum::<u64>();
    let (before, begun, stopwatch) = (arrived(), Instant::now(), way.agent().stopwatch());
    let busy = round_trip(&mut typist);
    let rate = (arrived() - before) as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
    let slowed = begun.elapsed().as_secs_f64() / stopwatch.elapsed().as_secs_f64();
    drop(bulk);
    println!(
        "{name}: idle {idle:.3?} ms, beside {BULK} {busy:.3?} ms and {rate:.0} MiB/s; slowed \
         down {slowed:.1} times by the machine"
    );
    assert!(busy.median <= floor.median.max(2.0 * idle.median) * slowed);
    assert!(busy.most <= floor.most.max(2.0 * idle.most) * slowed);
}

#[test]
fn a_keystroke_through_the_bridge_is_not_held_up() {
    let floor = RoundTrip {
        median: 3.0,
        most: 10.0,
    };
    is_fair("bridge", &Bridge::new(), floor);
}

/// All channels share one connection to the proxy, and what others have put into its buffers goes
/// first. Still a person can type.
#[test]
fn a_keystroke_through_the_tunnel_is_not_held_up_for_long() {
    let floor = RoundTrip {
        median: 200.0,
        most: 400.0,
    };
    is_fair("tunnel", &Service::new().unwrap(), floor);
}
