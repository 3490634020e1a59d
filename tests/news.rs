//! What happens to the network is acted on at once, not when the next attempt is due.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use harness::agent::Agent;
use harness::limits::{PROGRAM, SOON};
use harness::load::Echo;
use harness::netns::Namespace;
use harness::openssh::{Sshd, TUNNEL_USER};
use harness::process;
use harness::scene::{OPTIONS, Scene};
use harness::{usage, wait};
use serde_json::Value;

/// The longest from the cure to up.
const LIMIT: Duration = Duration::from_secs(3);

/// An address of the proxy, and two of the guest's, on one device.
const PROXY: &str = "10.99.0.1";
const FIRST: &str = "10.99.0.2";
const SECOND: &str = "10.99.0.3";

fn ip(namespace: &Arc<Namespace>, arguments: &str) {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    namespace.enter(move || process::run(&mut command)).unwrap();
}

/// A scene whose proxy has an address that comes and goes, and the document for it.
fn scene() -> (Scene, String) {
    // A session from an address that is gone is a ghost to the proxy until it misses two of these.
    let proxy = Sshd::proxy_config().replace("ClientAliveInterval 15", "ClientAliveInterval 1");
    let config = format!("ListenAddress 0.0.0.0:2223\n{proxy}");
    let scene = Scene::with_proxy(&config).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let document = scene.document().unwrap();
    let document = document.replace(
        "host: 127.0.0.1, port: 2222",
        &format!("host: {PROXY}, port: 2223"),
    );
    assert!(document.contains(PROXY));
    (scene, document)
}

#[test]
fn a_network_that_comes_late_is_used_at_once() {
    let (scene, document) = scene();
    let agent = scene.agent(&document).unwrap();
    // Fault: there is no way to the proxy, for so long that attempts have become rare.
    agent
        .wait_for("sixth attempt", SOON, |status| {
            status["tunnel"]["attempt"].as_u64() >= Some(7)
                && status["tunnel"]["state"] == "waiting"
        })
        .unwrap();
    // Cure: an address, and with it the proxy.
    ip(&scene.namespace, &format!("address add {PROXY}/32 dev lo"));
    let cured = agent.stopwatch();
    agent.tunnel("up", SOON).unwrap();
    let took = cured.elapsed();
    println!("a network that comes late: {took:.1?}");
    assert!(took <= LIMIT, "{took:?}");
}

#[test]
fn a_session_from_an_address_that_is_gone_is_opened_anew() {
    let (scene, document) = scene();
    let from =
        |address: &str| format!("route replace local {PROXY} dev lo table local src {address}");
    for address in [PROXY, FIRST] {
        ip(
            &scene.namespace,
            &format!("address add {address}/32 dev lo"),
        );
    }
    ip(&scene.namespace, &from(FIRST));
    let agent = scene.agent(&document).unwrap();
    agent.tunnel("up", SOON).unwrap();
    // Fault and cure in one: the guest is renumbered.
    // In one go: a second burst would be news after a longer distance.
    let add = format!("address add {SECOND}/32 dev lo");
    let delete = format!("address del {FIRST}/32 dev lo");
    let changes = [add, from(SECOND), delete].join("\n");
    let mut batch = Command::new("ip");
    batch.args(["-batch", "-"]);
    let output = scene.namespace.output(&batch, changes.as_bytes(), PROGRAM);
    process::succeeded(&batch, &output.unwrap()).unwrap();
    let cured = agent.stopwatch();
    agent.tunnel_fault("address-gone", SOON).unwrap();
    let noticed = cured.elapsed();
    let logged_in = format!("Accepted publickey for {TUNNEL_USER} from {SECOND}");
    let again = || scene.proxy.log().contains(&logged_in).then_some(());
    wait::until("login from the new address", SOON, again).unwrap();
    let logged_in = cured.elapsed();
    println!("renumbered: noticed after {noticed:.1?}, logged in after {logged_in:.1?}");
    assert!(logged_in <= 2 * LIMIT, "{logged_in:?}");
    assert!(noticed <= LIMIT, "{noticed:?}");
    // The rest is up to the proxy, which has a dead session on the port.
    agent.tunnel("up", SOON).unwrap();
    println!("renumbered: up after {:.1?}", cured.elapsed());
}

/// Containers: a pair of interfaces that comes with an address and goes again, until this is
/// dropped.
struct Containers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Containers {
    fn start(namespace: &Arc<Namespace>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace) = (Arc::clone(&stop), Arc::clone(namespace));
        let thread = thread::spawn(move || {
            for number in 0..=u8::MAX {
                if stopped.load(Relaxed) {
                    return;
                }
                let veth = format!("veth{number}");
                ip(
                    &namespace,
                    &format!("link add {veth} type veth peer name eth{number}"),
                );
                ip(
                    &namespace,
                    &format!("address add 172.17.{number}.1/24 dev {veth}"),
                );
                ip(&namespace, &format!("link set {veth} up"));
                // The fault is that they come and go.
                thread::sleep(Duration::from_millis(500));
                ip(&namespace, &format!("link del {veth}"));
            }
        });
        let thread = Some(thread);
        Self { stop, thread }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often the agent has told its parts that something came or went.
fn changes(agent: &Agent) -> usize {
    agent.log().matches("the network has changed").count()
}

/// When the next attempt is due, if the tunnel waits for it.
fn next_attempt(status: &Value) -> Option<SystemTime> {
    let due = status["tunnel"]["next_attempt_at"].as_str()?;
    humantime::parse_rfc3339(due).ok()
}

/// A proxy that does not know the key sees a login when one is due, however often containers come
/// and go; and at once when there is another way to it.
#[test]
fn containers_cost_no_login_and_another_way_to_the_proxy_is_taken_at_once() {
    let (scene, document) = scene();
    scene.proxy.revoke_all().unwrap();
    for address in [PROXY, FIRST, SECOND] {
        ip(
            &scene.namespace,
            &format!("address add {address}/32 dev lo"),
        );
    }
    let agent = scene.agent(&document).unwrap();
    agent.tunnel_fault("auth-rejected", SOON).unwrap();
    let containers = Containers::start(&scene.namespace);
    let mut watch = agent.watch().unwrap();
    let mut due = None;
    let mut logins = 0;
    // Five pieces of news take 1 + 2 + 4 + 8 + 16 s.
    let began = Instant::now();
    while changes(&agent) < 5 {
        assert!(began.elapsed() < 20 * SOON, "{}", agent.log());
        let status = watch
            .until("attempt, or the wait for it", 40 * SOON, |status| {
                ["opening", "waiting"]
                    .iter()
                    .any(|state| status["tunnel"]["state"] == *state)
            })
            .unwrap();
        if let Some(next) = next_attempt(&status) {
            due = Some(next);
        } else if let Some(due) = due.take() {
            logins += 1;
            let early = due.duration_since(SystemTime::now()).unwrap_or_default();
            // The status has whole seconds of it, or the clock is adjusted a little.
            assert!(
                early < Duration::from_secs(1),
                "{early:?} early\n{}",
                agent.log()
            );
        }
    }
    println!(
        "{logins} more logins during {} changes of the network",
        changes(&agent)
    );
    // Another way, while the next attempt is far.
    watch
        .until("distant attempt", 40 * SOON, |status| {
            next_attempt(status).is_some_and(|due| due > SystemTime::now() + 2 * LIMIT)
        })
        .unwrap();
    let way = format!("route replace local {PROXY} dev lo table local src {SECOND}");
    ip(&scene.namespace, &way);
    let cured = Instant::now();
    watch
        .until("attempt by the new way", LIMIT, |status| {
            status["tunnel"]["state"] == "opening"
        })
        .unwrap();
    println!("another way: tried after {:.1?}", cured.elapsed());
    drop(containers);
}

/// The thread that carries all connections does not read the tables: 100 000 routes took it 0.6 s
/// at each change.
#[test]
fn a_hundred_thousand_routes_hold_no_connection_up() {
    let mut scene = Scene::new().unwrap();
    scene.sshd.stop();
    let listener = scene.namespace.listen(([127, 0, 0, 1], 22).into()).unwrap();
    let _echo = Echo::serve(&listener).unwrap();
    let config = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
    let mut client = UnixStream::connect(agent.bridge()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    let mut round_trip = || {
        let began = Instant::now();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        began.elapsed()
    };
    let routes: String = (0..100_000_u32)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            format!("route add 10.{a}.{b}.{c}/32 dev lo\n")
        })
        .collect();
    let usual = (0..1000).map(|_| round_trip()).max().unwrap();
    let before = usage::main_thread(agent.id()).unwrap();
    let mut batch = Command::new("ip");
    batch.args(["-batch", "-"]);
    let output = scene
        .namespace
        .output(&batch, routes.as_bytes(), 6 * SOON)
        .unwrap();
    process::succeeded(&batch, &output).unwrap();
    let adding = usage::main_thread(agent.id()).unwrap() - before;
    println!("{adding:.1?} of processor time while the routes were added");
    let (mut worst, mut trips) = (Duration::ZERO, 0);
    for count in 1..=4 {
        ip(
            &scene.namespace,
            &format!("address add 10.200.0.{count}/32 dev lo"),
        );
        let changed = Instant::now();
        while changes(&agent) < count {
            assert!(changed.elapsed() < 6 * SOON, "{}", agent.log());
            worst = worst.max(round_trip());
            trips += 1;
            thread::sleep(Duration::from_millis(1));
        }
    }
    let used = usage::main_thread(agent.id()).unwrap() - before;
    println!(
        "{trips} round trips: {worst:.1?} at worst, {usual:.1?} before; {used:.1?} of processor time"
    );
    // Processor time, which other work on the machine does not change. A round trip has 1 ms.
    let allowed = Duration::from_millis(400) + trips * Duration::from_millis(1);
    assert!(used < allowed, "{used:?} of {allowed:?}");
}
