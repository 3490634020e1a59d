//! The tunnel heals from what happens to its proxy: each test makes the fault, cures it, and bounds
//! the time until the tunnel is up. With `--nocapture` they print what it took.

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use harness::agent::Agent;
use harness::fault::{Frozen, Silence};
use harness::limits::{ROUND, SOON};
use harness::metadata::Metadata;
use harness::openssh::{Sshd, make_key};
use harness::scene::{OPTIONS, PORT, Scene};
use harness::wait;
use harness::watch::Outage;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A user of the tunnel who has heard sshd's banner, so that the connection is open all the way.
fn user(scene: &Scene) -> TcpStream {
    let mut user = scene
        .namespace
        .connect(([127, 0, 0, 1], PORT).into())
        .unwrap();
    user.set_read_timeout(Some(SOON)).unwrap();
    let mut banner = [0; 4];
    user.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-");
    user
}

/// How many files the agent has open, without those who ask for its status.
fn descriptors(agent: &Agent) -> usize {
    let links = std::fs::read_dir(format!("/proc/{}/fd", agent.id())).unwrap();
    links.count()
}

#[test]
fn a_proxy_that_is_killed_and_restarted_is_back_at_once_twenty_times_in_a_row() {
    let mut scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let before = descriptors(&agent);
    for round in 1..=20 {
        let open: Vec<_> = (0..3).map(|_| user(&scene)).collect();
        let fault = format!("proxy killed with {} connections open, {round}", open.len());
        let outage = Outage::begin(&agent, fault).unwrap();
        scene.proxy.crash().unwrap();
        for mut user in open {
            // The end of file or a reset, but no silence.
            let end = user.read_to_end(&mut Vec::new());
            assert!(!end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
        }
        scene.proxy.start().unwrap();
        // The longer the outage, the longer the delay until the next attempt, to 3 s
        // (`Timing::free_cap`): a busy machine restarts the proxy more slowly.
        let delay = outage.age().min(3 * SECOND);
        outage.cured("restarted", 2 * SECOND + delay).unwrap();
    }
    wait::until("end of all descriptors", SOON, || {
        (descriptors(&agent) <= before).then_some(())
    })
    .unwrap();
}

#[test]
fn a_session_that_is_killed_in_a_transfer_leaves_nothing_behind() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let before = descriptors(&agent);
    for round in 1..=3 {
        thread::scope(|scope| {
            let transfer = scope.spawn(|| scene.login("tunnel", "cat /dev/zero | head -c 1T"));
            let moving = |status: &Value| status["tunnel"]["open"] == 1;
            agent.wait_for("transfer", SOON, moving).unwrap();
            let fault = format!("session killed in a transfer, {round}");
            let outage = Outage::begin(&agent, fault).unwrap();
            scene.proxy.cut().unwrap();
            outage.cured("none is needed", 2 * SECOND).unwrap();
            assert!(transfer.join().unwrap().is_err(), "it had no end");
        });
    }
    agent
        .wait_for("no open channel", SOON, |status| {
            status["tunnel"]["open"] == 0
        })
        .unwrap();
    wait::until("end of all descriptors", SOON, || {
        (descriptors(&agent) <= before).then_some(())
    })
    .unwrap();
}

/// How a proxy falls silent, and how the agent learns that it is back.
#[derive(Clone, Copy, Debug)]
enum Hush {
    /// Its processes stop; the kernel still takes connections for them.
    Frozen,
    /// Its packets are lost.
    Lost,
}

/// Silent for 20 s; then cured, with news of it or without.
fn silence(hush: Hush, news: bool) {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let how = if news { "with news" } else { "without news" };
    let mut outage = Outage::begin(&agent, format!("silent proxy ({hush:?})")).unwrap();
    let mut processes = scene.proxy.sessions().unwrap();
    processes.push(Pid::from_raw(scene.proxy.id().unwrap().try_into().unwrap()));
    let undo: Box<dyn std::any::Any> = match hush {
        Hush::Frozen => Box::new(Frozen::new(&processes).unwrap()),
        Hush::Lost => Box::new(Silence::of_server(&scene.namespace, scene.proxy.address).unwrap()),
    };
    outage.shows(15 * SECOND, &["keepalive-lost"]).unwrap();
    thread::sleep((20 * SECOND).saturating_sub(outage.age()));
    let cured = agent.stopwatch();
    drop(undo);
    // Without news, an attempt may hang for as long as its step may, or a delay may have begun;
    // neither is longer than this after so few attempts.
    let mut limit = 15 * SECOND;
    if news {
        agent.signal(Signal::SIGHUP).unwrap();
        limit = 2 * SECOND;
    }
    outage.up_since(cured, how, limit).unwrap();
}

/// The old session is cut off without a word and holds the port, until sshd gives it up: three
/// unanswered questions, which OpenSSH 9.2 takes 40 s for at this interval, and 118 s at 15 s.
fn ghost() {
    let config = Sshd::proxy_config().replace("ClientAliveInterval 15", "ClientAliveInterval 5");
    let scene = Scene::with_proxy(&config).unwrap();
    let agent = scene.up().unwrap();
    let mut outage = Outage::begin(&agent, "ghost session, ClientAlive 5 x 3").unwrap();
    let _silence = Silence::of_connections(&scene.namespace, scene.proxy.address).unwrap();
    // After 13 s of silence, in another login.
    outage.shows(13 * SECOND + SOON, &["port-held"]).unwrap();
    let freed = || {
        let given_up = "Timeout, client not responding from user";
        let seen = scene.proxy.log().contains(given_up);
        seen.then(|| agent.stopwatch())
    };
    let freed = wait::until("timeout at the proxy", 60 * SECOND + SOON, freed).unwrap();
    outage.up_since(freed, "sshd frees it", 2 * SECOND).unwrap();
    let logins = scene.proxy.log().matches("Accepted publickey").count();
    assert_eq!(logins, 2, "one login takes the port back");
}

#[test]
fn a_proxy_that_falls_silent_is_noticed_and_come_back_to() {
    // Each of them waits nearly all the time, in a namespace of its own.
    thread::scope(|scope| {
        scope.spawn(ghost);
        for hush in [Hush::Frozen, Hush::Lost] {
            for news in [true, false] {
                scope.spawn(move || silence(hush, news));
            }
        }
    });
}

#[test]
fn a_held_port_is_taken_once_it_is_free_without_another_login() {
    let scene = Scene::new().unwrap();
    let allowed = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &allowed).unwrap();
    let squatter = scene.namespace.listen(([0, 0, 0, 0], PORT).into()).unwrap();
    let agent = scene.agent(&scene.document().unwrap()).unwrap();
    let mut outage = Outage::begin(&agent, "port taken by another program").unwrap();
    outage.shows(SOON, &["port-held"]).unwrap();
    // It asks more than once before it is free.
    let asked = |status: &Value| status["tunnel"]["fault"]["count"].as_u64() >= Some(3);
    agent.wait_for("third request", SOON, asked).unwrap();
    drop(squatter);
    outage.cured("freed", 6 * SECOND).unwrap();
    assert_eq!(scene.proxy.log().matches("Accepted publickey").count(), 1);
}

#[test]
fn a_key_that_is_removed_and_rotated_in_the_metadata_is_taken_without_a_restart() {
    let scene = Scene::new().unwrap();
    let fresh = make_key(&scene.agent_dir().join("fresh"), "ed25519").unwrap();
    let mut agent = scene.up().unwrap();
    let mut outage = Outage::begin(&agent, "key removed on the proxy").unwrap();
    scene.proxy.revoke_all().unwrap();
    scene.proxy.cut().unwrap();
    outage.shows(SOON, &["auth-rejected"]).unwrap();
    let degraded = |status: &Value| status["health"] == "degraded";
    agent.wait_for("degraded health", SOON, degraded).unwrap();
    let public = fresh.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let host_key = scene.proxy.host_key("ed25519").unwrap();
    let document = scene
        .document_with("0.0.0.0", PORT, &host_key, &fresh, "")
        .unwrap();
    agent.write_document(&document).unwrap();
    outage
        .cured("a new one in the metadata", 5 * SECOND)
        .unwrap();
    agent.alive().unwrap();
}

/// For two minutes a rejected key is tried again after 8 s at most, and never so often that
/// OpenSSH would penalise this guest's address.
#[test]
fn a_key_that_is_removed_and_put_back_is_tried_again_soon() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let mut outage = Outage::begin(&agent, "key removed on the proxy").unwrap();
    scene.proxy.revoke_all().unwrap();
    scene.proxy.cut().unwrap();
    outage.shows(SOON, &["auth-rejected"]).unwrap();
    // Rejected for so long that the delays have grown, if they do.
    let again = |status: &Value| status["tunnel"]["fault"]["count"].as_u64() >= Some(4);
    agent
        .wait_for("fourth rejection", 40 * SECOND, again)
        .unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    outage.cured("put back", 10 * SECOND).unwrap();
}

#[test]
fn a_host_key_that_changes_is_not_trusted_before_the_metadata_says_so() {
    // At this level sshd logs each request to log in, even one that names no key.
    let config = format!("LogLevel DEBUG1\n{}", Sshd::proxy_config());
    let mut scene = Scene::with_proxy(&config).unwrap();
    let agent = scene.up().unwrap();
    let asked = |scene: &Scene| scene.proxy.log().matches("userauth-request").count();
    assert_ne!(asked(&scene), 0);
    let mut outage = Outage::begin(&agent, "the proxy's host key changed").unwrap();
    scene.proxy.crash().unwrap();
    scene.proxy.change_host_keys().unwrap();
    scene.proxy.start().unwrap();
    outage.shows(SOON, &["host-key-mismatch"]).unwrap();
    // Even if it is told to try again and again.
    let count = |status: &Value| status["tunnel"]["fault"]["count"].as_u64();
    let first = count(&agent.status().unwrap());
    agent.signal(Signal::SIGHUP).unwrap();
    agent
        .wait_for("another attempt", SOON, |status| count(status) > first)
        .unwrap();
    assert_eq!(asked(&scene), 0, "{}", scene.proxy.log());
    agent.write_document(&scene.document().unwrap()).unwrap();
    outage
        .cured("the new one in the metadata", 5 * SECOND)
        .unwrap();
    assert_ne!(asked(&scene), 0, "the log would have shown it");
}

#[test]
fn a_document_without_a_tunnel_gives_the_port_back() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    let removed = agent.stopwatch();
    agent.write_document("vmagent: {version: 1}").unwrap();
    let status = agent.tunnel("off", SOON).unwrap();
    assert_eq!(status["tunnel"]["fault"], json!(null));
    let free = || scene.namespace.listen(([0, 0, 0, 0], PORT).into()).ok();
    let listener = wait::until("port that is free", SOON, free).unwrap();
    let took = removed.elapsed();
    println!("no tunnel in the metadata | the port is free after {took:.2?} of 5 s");
    assert!(took <= 5 * SECOND, "{took:?}");
    drop(listener);
    let outage = Outage::begin(&agent, "no tunnel in the metadata").unwrap();
    agent.write_document(&scene.document().unwrap()).unwrap();
    outage.cured("there again", 5 * SECOND).unwrap();
}

/// An agent that looks for its document in a metadata service.
fn with_service(scene: &Scene) -> Agent {
    let sources = [("metadata", "sources = [\"ec2\"]")];
    Agent::start(&scene.namespace, &scene.agent_dir(), &sources).unwrap()
}

#[test]
fn a_metadata_service_that_is_down_takes_no_tunnel_down() {
    let scene = Scene::new().unwrap();
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let document = format!("#cloud-config\n{}", scene.document().unwrap());
    let agent = with_service(&scene);
    let outage = Outage::begin(&agent, "no metadata service at boot").unwrap();
    let failing = |status: &Value| status["metadata"]["fault"]["count"].as_u64() >= Some(2);
    agent.wait_for("second failure", ROUND, failing).unwrap();
    let service = Metadata::start(&scene.namespace).unwrap();
    service.ec2("i-0abc", &document);
    // The next look at the metadata is up to 6.25 s away (metadata/schedule.rs: 5 s, and a quarter
    // more).
    outage.cured("there is one", 8 * SECOND).unwrap();

    // Two ways of being down: nobody listens, and nobody answers.
    let mut watch = agent.watch().unwrap();
    let logins = || scene.proxy.log().matches("Accepted publickey").count();
    let mut look = |what: &str| {
        let count = |status: &Value| status["metadata"]["fault"]["count"].as_u64();
        for times in 1..=2 {
            agent.signal(Signal::SIGHUP).unwrap();
            let status = watch
                .until(what, ROUND, |status| {
                    assert_eq!(status["tunnel"]["state"], "up", "{what}: {status:#}");
                    status["metadata"]["state"] == "failed" && count(status) >= Some(times)
                })
                .unwrap();
            assert_eq!(status["tunnel"]["fault"], json!(null));
        }
    };
    let address = ([169, 254, 169, 254], 80).into();
    let silence = Silence::of_server(&scene.namespace, address).unwrap();
    look("a service that is silent");
    drop(silence);
    drop(service);
    look("a service that is gone");
    assert_eq!(logins(), 1, "the session was another");
}
