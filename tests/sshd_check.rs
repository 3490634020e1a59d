//! The agent's own look at sshd costs a slow sshd nothing, and a quiet one not even a line in its
//! log.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::arrivals::Arrivals;
use harness::fault::Frozen;
use harness::limits::{PROGRAM, SOON};
use harness::openssh::Sshd;
use harness::scene::Scene;
use nix::unistd::Pid;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A scene whose agent holds no tunnel, with this added to the guest's sshd.
fn scene(config: &str) -> Scene {
    let mut scene = Scene::new().unwrap();
    if !config.is_empty() {
        scene
            .sshd
            .configure("ListenAddress", &format!("{config}\nListenAddress"))
            .unwrap();
        scene.sshd.crash().unwrap();
        scene.sshd.start().unwrap();
    }
    scene
}

fn agent(scene: &Scene) -> Agent {
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
}

fn sshd(state: &str) -> impl Fn(&Value) -> bool {
    move |status| status["sshd"]["state"] == state
}

fn fault(code: &str) -> impl Fn(&Value) -> bool {
    move |status| status["sshd"]["fault"]["code"] == code
}

/// Lets time pass since `start`: it is what the fault consists of.
fn pass(start: Instant, time: Duration) {
    thread::sleep(time.saturating_sub(start.elapsed()));
}

/// An sshd that takes connections and has no time for them.
fn slow() {
    let scene = scene("");
    let agent = agent(&scene);
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let listener = Pid::from_raw(scene.sshd.id().unwrap().try_into().unwrap());
    let frozen = Frozen::new(&[listener]).unwrap();
    let start = Instant::now();
    // A user comes, is not answered and leaves, which is a reason to look.
    drop(std::os::unix::net::UnixStream::connect(agent.bridge()).unwrap());
    agent
        .wait_for("silent sshd", SOON, fault("sshd-silent"))
        .unwrap();
    pass(start, 25 * SECOND);
    let before = arrivals.times().unwrap().len();
    assert!(
        before <= 2,
        "a user and one check, but there were {before} connections"
    );
    drop(frozen);
    let cured = agent.stopwatch();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    println!(
        "sshd stopped for 25 s | goes on | ready after {:.2?}",
        cured.elapsed()
    );
    assert!(cured.elapsed() <= 2 * SECOND);
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
}

/// An sshd that closes each connection before its banner.
fn closing() {
    let scene = scene("MaxStartups 1:100:1");
    let agent = agent(&scene);
    let idler = || -> TcpStream {
        let mut stream = scene.namespace.connect(scene.sshd.address).unwrap();
        let _ = stream.read(&mut [0; 4]);
        stream
    };
    let _idlers = [idler(), idler()];
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let start = Instant::now();
    drop(std::os::unix::net::UnixStream::connect(agent.bridge()).unwrap());
    pass(start, 30 * SECOND);
    let checks = arrivals.times().unwrap().len();
    println!("sshd closes connections for 30 s | {checks} came");
    assert!(checks <= 8, "{checks} connections in 30 s");
}

/// An sshd that nobody asks for: more than a minute, after which 0.1 looked again.
fn quiet() {
    let scene = scene("");
    let _agent = agent(&scene);
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let (start, log) = (Instant::now(), scene.sshd.log());
    pass(start, 65 * SECOND);
    assert_eq!(arrivals.times().unwrap().len(), 0);
    assert_eq!(scene.sshd.log(), log);
}

/// One that goes away unseen is found out all the same.
fn gone() {
    let mut scene = scene("");
    let agent = agent(&scene);
    scene.sshd.stop();
    let start = Instant::now();
    agent
        .wait_for("lost sshd", 60 * SECOND + SOON, fault("sshd-down"))
        .unwrap();
    println!(
        "sshd is gone, and nobody asks | noticed after {:.1?}",
        start.elapsed()
    );
    scene.sshd.start().unwrap();
    agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
}

#[test]
fn a_check_stays_on_one_connection_backs_off_and_needs_a_reason() {
    // Each of them waits nearly all the time, in a namespace of its own.
    thread::scope(|scope| {
        for scenario in [slow, closing, quiet, gone] {
            scope.spawn(scenario);
        }
    });
}

/// Where no other address than 127.0.0.1 can be used, all origins share it, and nobody is told
/// that sshd is down.
#[test]
fn a_loopback_with_one_address_serves_and_says_that_origins_are_not_told_apart() {
    let scene = Scene::new().unwrap();
    for change in [
        "address delete 127.0.0.1/8 dev lo",
        "address add 127.0.0.1/32 dev lo",
    ] {
        let mut ip = std::process::Command::new("ip");
        ip.args(change.split(' '));
        scene.namespace.run(&ip, PROGRAM).unwrap();
    }
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    let status = agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
    assert_eq!(status["sshd"]["origins_apart"], false, "{status:#}");
    for way in ["tunnel", "bridge"] {
        assert_eq!(scene.login(way, "echo in").unwrap(), "in\n");
    }
    let status = agent.status().unwrap();
    assert_eq!(status["bridge"]["origins"][0]["seen_as"], "127.0.0.1");
}

/// sshd on an address of this guest that is not loopback, and on IPv6.
#[test]
fn origins_are_apart_where_sshd_is_on_ipv4_and_status_says_where_they_are_not() {
    for (address, apart) in [("169.254.169.254:22", true), ("[::1]:22", false)] {
        let scene = Scene::new().unwrap();
        let dir = scene.agent_dir().join("sshd");
        std::fs::create_dir(&dir).unwrap();
        let server = Sshd::new(&scene.namespace, &dir, address.parse().unwrap(), "").unwrap();
        server
            .authorize("", &scene.person.public().unwrap())
            .unwrap();
        let line = format!("sshd = \"{address}\"");
        let config = [("bridge", line.as_str()), ("tunnel", "when = \"never\"")];
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
        scene.add_bridge(&agent).unwrap();
        let status = agent.wait_for("sshd", SOON, sshd("ready")).unwrap();
        assert_eq!(status["sshd"]["origins_apart"], apart, "{status:#}");
        let seen = scene.login("bridge", "echo ${SSH_CONNECTION%% *}").unwrap();
        let expected = if apart { "127.1.0.3\n" } else { "::1\n" };
        assert_eq!(seen, expected);
    }
}
