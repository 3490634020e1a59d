//! The guest's sshd goes and comes back; the ways in stay, and lead to it at once.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::limits::SOON;
use harness::scene::{PORT, Scene};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How soon after sshd is back the first login has worked, and the status says so.
const BACK: Duration = Duration::from_secs(1);

fn scene() -> (Scene, Agent) {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    (scene, agent)
}

fn sshd_is(state: &str) -> impl Fn(&Value) -> bool {
    move |status| status["sshd"]["state"] == state
}

/// What a user of the tunnel's port reads: nothing, and then the end.
fn refused(scene: &Scene) {
    let address = ([127, 0, 0, 1], PORT).into();
    let mut user = scene.namespace.connect(address).unwrap();
    user.set_read_timeout(Some(SOON)).unwrap();
    let mut heard = Vec::new();
    match user.read_to_end(&mut heard) {
        Ok(_) => assert!(heard.is_empty(), "{:?}", String::from_utf8_lossy(&heard)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn introduces_itself(caller: &mut impl Read) {
    let mut banner = [0; 4];
    caller.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
}

fn one_session(scene: &Scene, agent: &Agent) {
    assert_eq!(agent.status().unwrap()["tunnel"]["state"], "up");
    let log = scene.proxy.log();
    let logins = log.matches("Accepted publickey").count();
    assert_eq!(logins, 1, "the tunnel did not stay: {log}");
}

#[test]
fn sshd_that_stops_costs_no_tunnel_and_is_reached_as_soon_as_it_is_back() {
    let (mut scene, agent) = scene();
    let mut worst = [Duration::ZERO; 3];
    for _ in 0..3 {
        scene.sshd.stop();
        let fault = Instant::now();
        refused(&scene);
        println!("refused after {:?}", fault.elapsed());
        // A call by the bridge waits, and tells the watch over sshd.
        let mut held = UnixStream::connect(agent.bridge()).unwrap();
        held.set_read_timeout(Some(SOON)).unwrap();
        agent
            .wait_for("lost sshd", SOON, sshd_is("waiting"))
            .unwrap();
        one_session(&scene, &agent);
        scene.sshd.start().unwrap();
        let cure = agent.stopwatch();
        let address = ([127, 0, 0, 1], PORT).into();
        let mut user = scene.namespace.connect(address).unwrap();
        user.set_read_timeout(Some(SOON)).unwrap();
        introduces_itself(&mut user);
        worst[0] = worst[0].max(cure.elapsed());
        introduces_itself(&mut held);
        worst[1] = worst[1].max(cure.elapsed());
        agent.wait_for("sshd", SOON, sshd_is("ready")).unwrap();
        worst[2] = worst[2].max(cure.elapsed());
        // What is left of a login is sshd's own work.
        for way in ["tunnel", "bridge"] {
            assert_eq!(scene.login(way, "echo in").unwrap(), "in\n");
        }
        one_session(&scene, &agent);
    }
    println!("call of the tunnel, held call of the bridge, status: at worst {worst:?}");
    for time in worst {
        assert!(time <= BACK, "{worst:?}");
    }
}

/// Nobody calls meanwhile, and it is away for so long that it is not looked at often any more.
#[test]
fn the_status_says_within_a_second_that_sshd_is_back() {
    let (mut scene, agent) = scene();
    scene.sshd.stop();
    drop(UnixStream::connect(agent.bridge()).unwrap());
    let missed = |status: &Value| status["sshd"]["fault"]["count"].as_u64() >= Some(7);
    agent
        .wait_for("sshd missed seven times", SOON, missed)
        .unwrap();
    scene.sshd.start().unwrap();
    let cure = agent.stopwatch();
    agent.wait_for("sshd", SOON, sshd_is("ready")).unwrap();
    let took = cure.elapsed();
    println!("the status took {took:?}");
    assert_eq!(scene.login("tunnel", "echo in").unwrap(), "in\n");
    one_session(&scene, &agent);
    assert!(took <= BACK, "{took:?}");
}

/// A server that is starting, or has no time: it takes connections and says nothing yet.
#[test]
fn a_login_waits_for_an_sshd_that_is_slow_to_answer() {
    let (scene, agent) = scene();
    let listener = Pid::from_raw(i32::try_from(scene.sshd.id().unwrap()).unwrap());
    kill(listener, Signal::SIGSTOP).unwrap();
    let address = ([127, 0, 0, 1], PORT).into();
    let mut by_tunnel = scene.namespace.connect(address).unwrap();
    let mut by_bridge = UnixStream::connect(agent.bridge()).unwrap();
    by_tunnel.set_read_timeout(Some(SOON)).unwrap();
    by_bridge.set_read_timeout(Some(SOON)).unwrap();
    let open = |status: &Value| status["tunnel"]["open"] == 1 && status["bridge"]["open"] == 1;
    agent.wait_for("open connections", SOON, open).unwrap();
    one_session(&scene, &agent);
    kill(listener, Signal::SIGCONT).unwrap();
    let cure = agent.stopwatch();
    introduces_itself(&mut by_tunnel);
    introduces_itself(&mut by_bridge);
    let took = cure.elapsed();
    println!("both answered after {took:?}");
    assert!(took <= BACK, "{took:?}");
}
