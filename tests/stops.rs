//! A stop waits for nothing that hangs, and what hangs piles nothing up.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::{self, Agent};
use harness::fault::{Frozen, Silence};
use harness::resolver::{Nameserver, ResolvConf};
use harness::scene::{OPTIONS, Scene};
use harness::usage;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(10);

/// An agent stops within 1 s of an orderly end of its parts; the rest is for a busy machine. One
/// that waits for a lookup or for a dial needs 8 s at least.
const STOP: Duration = Duration::from_secs(5);

const NAME: &str = "proxy.test";
const DEAD: [&str; 2] = ["127.0.0.9", "127.0.0.10"];
const ALIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A scene in which the nameservers in [`DEAD`] never answer.
fn scene_without_names() -> (Scene, Silence) {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let dropped = DEAD.map(|address| format!("ip daddr {address} udp dport 53"));
    let silence = Silence::new(&scene.namespace, &dropped).unwrap();
    (scene, silence)
}

fn agent_by_name(scene: &Scene, resolv_conf: &ResolvConf, config: &[(&str, &str)]) -> Agent {
    let name = format!("host: {NAME}");
    let document = scene.document().unwrap().replace("host: 127.0.0.1", &name);
    let dir = scene.agent_dir();
    agent::write_document(&dir, &document).unwrap();
    let wrap = |command| resolv_conf.wrap(&command);
    Agent::start_by(&scene.namespace, &dir, config, wrap).unwrap()
}

/// Stops an agent, and says how long that took.
fn stop(agent: &mut Agent) -> Duration {
    let began = Instant::now();
    agent.signal(Signal::SIGTERM).unwrap();
    agent.ends(2 * SOON).unwrap();
    began.elapsed()
}

#[test]
fn lookups_that_hang_take_one_thread_for_each_name_and_delay_no_stop() {
    let (scene, _silence) = scene_without_names();
    // Longer than the test: each lookup lasts minutes.
    let lines = format!("nameserver {}\noptions timeout:30 attempts:5\n", DEAD[0]);
    let resolv_conf = ResolvConf::new(&scene.agent_dir(), &lines).unwrap();
    let report = [("report", "url = \"http://report.test/\"")];
    let mut agent = agent_by_name(&scene, &resolv_conf, &report);
    let status = agent
        .wait_for("fourth lookup that hangs", 9 * SOON, |status| {
            status["tunnel"]["fault"]["count"].as_u64() >= Some(3)
                && status["tunnel"]["state"] == "opening"
                && status["reports"][0]["fault"]["count"].as_u64() >= Some(2)
        })
        .unwrap();
    let threads = usage::threads(agent.id()).unwrap();
    println!("threads in the fourth attempt: {threads:?}");
    let lookups = threads.iter().filter(|name| *name == "lookup").count();
    let took = stop(&mut agent);
    println!("stopped in {took:.2?} while a lookup hangs");
    // The proxy's and the receiver's.
    assert_eq!(lookups, 2, "{threads:?}");
    // The first one, and one that may have read the routes.
    assert!(threads.len() <= lookups + 2, "{threads:?}");
    assert!(took < STOP, "{took:?}");
    let fault = &status["tunnel"]["fault"];
    assert_eq!(fault["code"], "name-timeout", "{fault:#}");
    let advice = fault["advice"].as_str().unwrap();
    assert!(advice.contains("resolv.conf"), "{advice}");
}

/// The lookup lasts longer than an attempt waits for it; the next attempt has its answer.
#[test]
fn a_resolver_whose_first_two_nameservers_are_dead_is_slow_and_good_enough() {
    let (scene, _silence) = scene_without_names();
    let _alive = Nameserver::start(&scene.namespace, ALIVE, Ipv4Addr::LOCALHOST).unwrap();
    let lines = format!(
        "nameserver {}\nnameserver {}\nnameserver {ALIVE}\noptions timeout:6\n",
        DEAD[0], DEAD[1]
    );
    let resolv_conf = ResolvConf::new(&scene.agent_dir(), &lines).unwrap();
    let agent = agent_by_name(&scene, &resolv_conf, &[]);
    let began = Instant::now();
    agent.tunnel_fault("name-timeout", 3 * SOON).unwrap();
    agent.tunnel("up", 3 * SOON).unwrap();
    println!("up after {:.1?}", began.elapsed());
}

/// A lookup that hangs is not waited for once there is another resolv.conf.
#[test]
fn nameservers_that_come_late_are_asked_at_once() {
    let (scene, _silence) = scene_without_names();
    let _alive = Nameserver::start(&scene.namespace, ALIVE, Ipv4Addr::LOCALHOST).unwrap();
    let lines = format!("nameserver {}\noptions timeout:30 attempts:5\n", DEAD[0]);
    let resolv_conf = ResolvConf::new(&scene.agent_dir(), &lines).unwrap();
    let agent = agent_by_name(&scene, &resolv_conf, &[]);
    agent.tunnel_fault("name-timeout", 3 * SOON).unwrap();
    resolv_conf.set(&format!("nameserver {ALIVE}\n")).unwrap();
    let cured = Instant::now();
    // The attempt that is under way may wait for its own lookup.
    agent.tunnel("up", 3 * SOON).unwrap();
    println!("up {:.1?} after the nameservers came", cured.elapsed());
}

/// A service manager in the place of systemd. Descriptors that it is given are closed at once: the
/// next agent gets none.
struct Manager {
    path: String,
    told: Receiver<String>,
}

impl Manager {
    fn new(scene: &Scene) -> Self {
        let path = scene.agent_dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tell, told) = channel();
        // Ends with the test's process: no datagram says that there will be no other.
        thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                if tell.send(text).is_err() {
                    return;
                }
            }
        });
        let path = path.display().to_string();
        Self { path, told }
    }

    fn environment(&self) -> [(&str, &str); 1] {
        [("NOTIFY_SOCKET", self.path.as_str())]
    }

    /// Waits until it is told this.
    fn hear(&self, wanted: &str) {
        while !self.told.recv_timeout(SOON).unwrap().contains(wanted) {}
    }
}

/// Introduces itself as an sshd does, and says all back that it hears.
fn echo(mut stream: TcpStream) {
    let _ = stream.write_all(b"SSH-2.0-echo\r\n");
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// One byte there and back over the bridge.
fn round_trip(client: &mut UnixStream) -> std::io::Result<()> {
    client.write_all(b"x")?;
    client.read_exact(&mut [0])
}

/// The connections of the bridge stand still from its end until the next agent goes on with them.
/// So it ends last: a tunnel whose proxy is silent takes 2 s to end.
#[test]
fn the_bridge_serves_while_the_tunnel_ends() {
    let mut scene = Scene::new().unwrap();
    scene.sshd.stop();
    let listener = scene.namespace.listen(([127, 0, 0, 1], 22).into()).unwrap();
    let accepting = listener.try_clone().unwrap();
    let service = thread::spawn(move || {
        // Ends when the listener is shut down.
        while let Ok((stream, _)) = accepting.accept() {
            thread::spawn(|| echo(stream));
        }
    });
    let manager = Manager::new(&scene);
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let dir = scene.agent_dir();
    agent::write_document(&dir, &scene.document().unwrap()).unwrap();
    let environment = manager.environment();
    let mut agent = Agent::start_with(&scene.namespace, &dir, &[], &environment).unwrap();
    agent.tunnel("up", SOON).unwrap();
    let mut client = UnixStream::connect(agent.bridge()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.read_exact(&mut [0; 14]).unwrap();
    // Fault: the proxy says nothing any more.
    let _silent = Frozen::new(&scene.proxy.sessions().unwrap()).unwrap();
    agent.signal(Signal::SIGTERM).unwrap();
    manager.hear("STOPPING=1");
    let stopping = Instant::now();
    let (mut trips, mut last) = (0_u32, stopping);
    let end = loop {
        match round_trip(&mut client) {
            Ok(()) => {
                trips += 1;
                last = Instant::now();
            }
            Err(error) => break error,
        }
    };
    agent.ends(SOON).unwrap();
    println!(
        "{trips} round trips in {:.2?} after the stop began, {:.2?} before the end",
        last - stopping,
        last.elapsed()
    );
    // Closed at the agent's end: this manager keeps no descriptor.
    let closed = [
        ErrorKind::UnexpectedEof,
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
    ];
    assert!(closed.contains(&end.kind()), "{end}");
    assert!(trips >= 10, "{trips} round trips");
    harness::wait::until("end of the service", SOON, || {
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&listener),
            nix::sys::socket::Shutdown::Both,
        );
        service.is_finished().then_some(())
    })
    .unwrap();
}

/// An sshd whose queue is full, or a firewall on loopback: the connection is neither taken nor
/// refused, and a dial takes 8 s to give up.
#[test]
fn connections_that_sshd_does_not_take_delay_no_stop() {
    for managed in [false, true] {
        let scene = Scene::new().unwrap();
        let manager = managed.then(|| Manager::new(&scene));
        let environment = manager.as_ref().map(Manager::environment);
        let environment = environment.as_ref().map_or(&[][..], |pair| &pair[..]);
        let config = [("tunnel", "when = \"never\"")];
        let dir = scene.agent_dir();
        let mut agent = Agent::start_with(&scene.namespace, &dir, &config, environment).unwrap();
        agent
            .wait_for("ready bridge", SOON, |status| {
                status["bridge"]["state"] == "ready"
            })
            .unwrap();
        let dropped = ["ip daddr 127.0.0.1 tcp dport 22".to_owned()];
        let _silence = Silence::new(&scene.namespace, &dropped).unwrap();
        let mut client = UnixStream::connect(agent.bridge()).unwrap();
        client.set_read_timeout(Some(2 * SOON)).unwrap();
        agent
            .wait_for("held connection", SOON, |status| {
                status["bridge"]["open"] == 1
            })
            .unwrap();
        let told = thread::spawn(move || {
            let mut said = String::new();
            client.read_to_string(&mut said).map(|_| said)
        });
        let took = stop(&mut agent);
        let said = told.join().unwrap().unwrap();
        println!("stopped in {took:.2?} with a held connection, which was told {said:?}");
        assert!(took < STOP, "{took:?}");
        // With a manager it is left for the next agent, without a word.
        assert_eq!(said.contains("the agent stops"), !managed, "{said:?}");
    }
}
