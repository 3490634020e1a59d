//! Names that move, and several proxies: the next one takes over, and the first one takes back
//! without cutting anybody off.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::agent::{self, Agent};
use harness::fault::{Frozen, Silence};
use harness::hosts::Hosts;
use harness::limits::SOON;
use harness::openssh::Sshd;
use harness::scene::{OPTIONS, Scene};
use harness::stopwatch::Stopwatch;
use harness::wait;
use harness::watch::Outage;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "proxy.test";

/// From the cure to up, where no connection to the proxy came about: the next attempt is up to 3 s
/// away (`Timing::free_cap`), and takes a moment.
const REDIALLED: Duration = Duration::from_secs(5);

/// A scene whose proxy is known by its name, and an /etc/hosts of the agent's own.
fn named(proxy: &str, entries: &[(&str, &str)]) -> (Scene, Hosts) {
    let scene = Scene::with_proxy(proxy).unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let hosts = Hosts::new(&scene.agent_dir(), entries).unwrap();
    (scene, hosts)
}

fn agent_by_name(scene: &Scene, hosts: &Hosts) -> Agent {
    let name = format!("host: {NAME}");
    let document = scene.document().unwrap().replace("host: 127.0.0.1", &name);
    let dir = scene.agent_dir();
    agent::write_document(&dir, &document).unwrap();
    let wrap = |command| hosts.wrap(&command);
    Agent::start_by(&scene.namespace, &dir, &[], wrap).unwrap()
}

#[test]
fn a_name_that_comes_to_resolve_is_dialled() {
    let (scene, hosts) = named(&Sshd::proxy_config(), &[]);
    let agent = agent_by_name(&scene, &hosts);
    let mut outage = Outage::begin(&agent, "name does not resolve").unwrap();
    outage.shows(SOON, &["name-not-resolved"]).unwrap();
    hosts.set(&[("127.0.0.1", NAME)]).unwrap();
    outage.cured("it does", REDIALLED).unwrap();
}

#[test]
fn a_dead_address_beside_a_live_one_costs_no_time() {
    for addresses in [["127.0.0.9", "127.0.0.1"], ["127.0.0.1", "127.0.0.9"]] {
        let entries = addresses.map(|address| (address, NAME));
        let (scene, hosts) = named(&Sshd::proxy_config(), &entries);
        let dead = ["ip daddr 127.0.0.9".to_owned()];
        let _silence = Silence::new(&scene.namespace, &dead).unwrap();
        let agent = agent_by_name(&scene, &hosts);
        let started = agent.stopwatch();
        let fault = format!("{NAME} is {}, where .9 is dead", addresses.join(" and "));
        match agent.status().unwrap()["tunnel"]["state"].as_str() {
            Some("up") => println!("{fault} | up at once"),
            _ => drop(
                Outage::begin(&agent, fault)
                    .unwrap()
                    .up_since(started, "none", 3 * SECOND)
                    .unwrap(),
            ),
        }
    }
}

#[test]
fn a_name_that_moves_is_followed() {
    let old = "ListenAddress 127.0.0.1";
    let new = "ListenAddress 127.0.0.2";
    let (mut scene, hosts) = named(&Sshd::proxy_config(), &[("127.0.0.1", NAME)]);
    let agent = agent_by_name(&scene, &hosts);
    agent.tunnel("up", SOON).unwrap();
    let outage = Outage::begin(&agent, "the proxy moves to another address").unwrap();
    hosts.set(&[("127.0.0.2", NAME)]).unwrap();
    scene.proxy.crash().unwrap();
    let _silence = Silence::of_server(&scene.namespace, scene.proxy.address).unwrap();
    scene.proxy.configure(old, new).unwrap();
    scene.proxy.start().unwrap();
    outage.cured("it runs there", REDIALLED).unwrap();
}

/// Two proxies, with a service of the guest beside its sshd.
struct Pair {
    scene: Scene,
    second: Sshd,
    service: TcpListener,
}

/// The port of that service on each proxy.
const SERVICE: u16 = 8080;

impl Pair {
    fn new() -> Self {
        let scene = Scene::new().unwrap();
        let second = scene.another_proxy(2).unwrap();
        let options = format!("{OPTIONS},permitlisten=\"0.0.0.0:{SERVICE}\"");
        for proxy in [&scene.proxy, &second] {
            let public = scene.key.public().unwrap();
            proxy.authorize(&options, &public).unwrap();
        }
        let service = scene.namespace.listen(([127, 0, 0, 1], 80).into()).unwrap();
        Self {
            scene,
            second,
            service,
        }
    }

    fn agent(&self) -> Agent {
        let more = format!(
            "    forwards:\n      - {{bind: 0.0.0.0, port: {SERVICE}, to: '127.0.0.1:80'}}\n"
        );
        let proxies = [&self.scene.proxy, &self.second];
        let document = self.scene.document_of(&proxies, &more).unwrap();
        self.scene.agent(&document).unwrap()
    }

    /// A user of the service who came through the second proxy, and the service's end.
    fn user(&self) -> (TcpStream, TcpStream) {
        let address = SocketAddr::new(self.second.address.ip(), SERVICE);
        // It is up a moment after the tunnel is.
        let connect = || self.scene.namespace.connect(address);
        let user = wait::retry("service on the second proxy", SOON, connect).unwrap();
        let (server, _) = self.service.accept().unwrap();
        for stream in [&user, &server] {
            stream.set_read_timeout(Some(SOON)).unwrap();
        }
        (user, server)
    }

    /// Waits until the tunnel is back on the first proxy. It is up all the time, and a user of
    /// the second proxy notices nothing; the second session ends when that user has gone.
    fn returns(&self, agent: &Agent, fault: &str, cure: impl FnOnce(), limit: Duration) {
        let (user, server) = self.user();
        let mut watch = agent.watch().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let bytes = scope.spawn(|| ping_pong(&user, &server, &over));
            cure();
            let cured = agent.stopwatch();
            let back = watch.until("return to the first proxy", limit, |status| {
                let tunnel = &status["tunnel"];
                assert_eq!(tunnel["state"], "up", "{fault}: {status:#}");
                tunnel["proxy"] == "127.0.0.1:2222"
            });
            let took = cured.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            assert_ne!(bytes.join().unwrap(), 0);
            assert_eq!(back.unwrap()["tunnel"]["proxies"][0]["fault"], json!(null));
            println!("{fault} | first proxy back | taken back in {took:.2} s");
        });
        over.store(false, Ordering::Relaxed);
        let again = thread::scope(|scope| {
            let bytes = scope.spawn(|| ping_pong(&user, &server, &over));
            assert!(self.scene.login("tunnel", "true").is_ok(), "{fault}");
            over.store(true, Ordering::Relaxed);
            bytes.join().unwrap()
        });
        assert_ne!(again, 0, "{fault}: the user was cut off after the return");
        drop((user, server));
        let left = || self.second.sessions().is_ok_and(|left| left.is_empty());
        let ended = || left().then_some(());
        wait::until("end of the second session", SOON, ended).unwrap();
    }
}

/// Moves bytes both ways until it is over; says how often.
fn ping_pong(user: &TcpStream, server: &TcpStream, over: &AtomicBool) -> u64 {
    let mut heard = [0; 1024];
    let mut rounds = 0;
    while !over.load(Ordering::Relaxed) || rounds == 0 {
        for (mut from, mut to) in [(user, server), (server, user)] {
            from.write_all(&[7; 1024]).unwrap();
            to.read_exact(&mut heard).unwrap();
        }
        rounds += 1;
        thread::sleep(Duration::from_millis(10));
    }
    rounds
}

fn on_second(status: &Value) -> bool {
    status["tunnel"]["state"] == "up" && status["tunnel"]["proxy"] == "10.99.2.2:2222"
}

/// Waits until the tunnel is up on the second proxy, 15 s after the fault at most.
fn taken_over(agent: &Agent, fault: &str, since: Stopwatch, code: &[&str]) {
    let limit = 15 * SECOND;
    let status = agent
        .wait_for("second proxy", limit + SOON, on_second)
        .map_err(|failure| failure.during(fault))
        .unwrap();
    let took = since.elapsed();
    println!(
        "{fault} | second proxy | up in {:.2} s of 15",
        took.as_secs_f64()
    );
    assert!(took <= limit, "{fault}: {took:?}\n{}", agent.log());
    let met = &status["tunnel"]["proxies"][0]["fault"]["code"];
    let met = met.as_str().unwrap_or_default();
    assert!(code.contains(&met), "{fault}: {status:#}");
}

/// Asks for the return at once; without it, it is tried about once a minute.
fn ask(agent: &Agent) {
    agent.signal(Signal::SIGHUP).unwrap();
}

#[test]
fn the_second_proxy_serves_while_the_first_is_dead_at_boot() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pair = Pair::new();
            let fault = "first proxy refuses at boot";
            pair.scene.proxy.crash().unwrap();
            let agent = pair.agent();
            let since = agent.stopwatch();
            taken_over(&agent, fault, since, &["dial-failed"]);
            pair.scene.proxy.start().unwrap();
            pair.returns(&agent, fault, || ask(&agent), 5 * SECOND);
        });
        scope.spawn(|| {
            let pair = Pair::new();
            let fault = "first proxy is a black hole at boot";
            let proxy = pair.scene.proxy.address;
            let silence = Silence::of_server(&pair.scene.namespace, proxy).unwrap();
            let agent = pair.agent();
            let since = agent.stopwatch();
            taken_over(&agent, fault, since, &["dial-timeout"]);
            // Nobody tells it: a look that has begun fails within 10 s, and it looks again after
            // 30 to 90 s.
            pair.returns(&agent, fault, || drop(silence), 100 * SECOND + SOON);
        });
    });
}

/// How the first proxy dies while it serves.
#[derive(Clone, Copy, Debug)]
enum Death {
    Killed,
    Frozen,
    Lost,
}

fn dies(death: Death) {
    let mut pair = Pair::new();
    let agent = pair.agent();
    agent.tunnel("up", SOON).unwrap();
    let fault = format!("first proxy dies ({death:?})");
    let mut processes = pair.scene.proxy.sessions().unwrap();
    let listener = pair.scene.proxy.id().unwrap();
    processes.push(Pid::from_raw(listener.try_into().unwrap()));
    let since = agent.stopwatch();
    let (undo, codes): (Box<dyn Any>, &[&str]) = match death {
        Death::Killed => {
            pair.scene.proxy.crash().unwrap();
            (Box::new(()), &["closed-by-proxy", "dial-failed"])
        }
        Death::Frozen => (
            Box::new(Frozen::new(&processes).unwrap()),
            &["keepalive-lost", "no-banner"],
        ),
        Death::Lost => {
            let proxy = pair.scene.proxy.address;
            let silence = Silence::of_server(&pair.scene.namespace, proxy).unwrap();
            (Box::new(silence), &["keepalive-lost", "dial-timeout"])
        }
    };
    taken_over(&agent, &fault, since, codes);
    drop(undo);
    if matches!(death, Death::Killed) {
        pair.scene.proxy.start().unwrap();
    }
    pair.returns(&agent, &fault, || ask(&agent), 5 * SECOND);
}

#[test]
fn the_second_proxy_takes_over_when_the_first_dies() {
    thread::scope(|scope| {
        for death in [Death::Killed, Death::Frozen, Death::Lost] {
            scope.spawn(move || dies(death));
        }
    });
}
