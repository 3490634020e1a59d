//! The bridge leads to sshd, waits for it, and keeps origins apart.

use std::io::Read;
use std::os::unix::net::UnixStream;

use harness::agent::Agent;
use harness::limits::SOON;
use harness::scene::Scene;
use serde_json::{Value, json};

fn start(scene: &Scene, config: &[(&str, &str)]) -> Agent {
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), config).unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
}

fn ready(status: &Value) -> bool {
    status["bridge"]["state"] == "ready"
}

#[test]
fn a_login_goes_through_the_bridge_from_an_address_of_its_own() {
    let scene = Scene::new().unwrap();
    let agent = start(&scene, &[]);
    agent.wait_for("ready bridge", SOON, ready).unwrap();
    let connection = scene.login("bridge", "echo $SSH_CONNECTION").unwrap();
    let direct = scene.login("direct", "echo $SSH_CONNECTION").unwrap();
    let source = |line: &str| line.split(' ').next().unwrap().to_owned();
    assert_ne!(source(&connection), source(&direct));
    let ended = |status: &Value| status["bridge"]["accepted"] == 1 && status["bridge"]["open"] == 0;
    let status = agent.wait_for("end of the login", SOON, ended).unwrap();
    let expected = json!([{"origin": "unix", "seen_as": source(&connection), "accepted": 1}]);
    assert_eq!(status["bridge"]["origins"], expected);
    assert_eq!(status["health"], "ok");
}

#[test]
fn origins_of_the_tunnel_are_kept_apart_too() {
    let scene = Scene::new().unwrap();
    let agent = scene.up().unwrap();
    // Two clients of the proxy that have different addresses there.
    for address in ["127.0.0.7", "127.0.0.8"] {
        let config = [
            "HostName 127.0.0.1".into(),
            "Port 12345".into(),
            format!("BindAddress {address}"),
        ];
        scene
            .client
            .add(
                address,
                &[&config[..], &["HostKeyAlias guest".into()]].concat(),
            )
            .unwrap();
    }
    let source = |way: &str| {
        let line = scene.login(way, "echo $SSH_CONNECTION").unwrap();
        line.split(' ').next().unwrap().to_owned()
    };
    let (seven, eight) = (source("127.0.0.7"), source("127.0.0.8"));
    assert_ne!(seven, eight);
    assert_eq!(source("127.0.0.7"), seven);
    let status = agent.status().unwrap();
    let origins = status["tunnel"]["origins"].as_array().unwrap();
    assert!(origins.contains(&json!({"origin": "127.0.0.7", "seen_as": seven, "accepted": 2})));
    assert!(origins.contains(&json!({"origin": "127.0.0.8", "seen_as": eight, "accepted": 1})));
    assert!(
        agent.log().contains("127.0.0.8"),
        "the journal does not name the true origin"
    );
}

#[test]
fn connections_are_held_while_sshd_starts() {
    let mut scene = Scene::new().unwrap();
    scene.sshd.stop();
    let agent = start(&scene, &[]);
    let down = |status: &Value| status["bridge"]["fault"]["code"] == "sshd-down";
    let status = agent.wait_for("missing sshd", SOON, down).unwrap();
    assert_eq!(status["bridge"]["state"], "waiting");
    assert_eq!(status["health"], "degraded");
    let mut early = UnixStream::connect(agent.bridge()).unwrap();
    agent
        .wait_for("held connection", SOON, |status| {
            status["bridge"]["open"] == 1
        })
        .unwrap();
    scene.sshd.start().unwrap();
    early.set_read_timeout(Some(SOON)).unwrap();
    let mut banner = [0; 8];
    early.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    agent.wait_for("ready bridge", SOON, ready).unwrap();
}

#[test]
fn a_client_that_hangs_up_while_it_is_held_is_let_go() {
    let mut scene = Scene::new().unwrap();
    scene.sshd.stop();
    let agent = start(&scene, &[]);
    let client = UnixStream::connect(agent.bridge()).unwrap();
    agent
        .wait_for("held connection", SOON, |status| {
            status["bridge"]["open"] == 1
        })
        .unwrap();
    drop(client);
    agent
        .wait_for("end of it", SOON, |status| status["bridge"]["open"] == 0)
        .unwrap();
}

#[test]
fn the_bridge_is_no_worse_for_a_tunnel_that_can_not_come_up() {
    let scene = Scene::new().unwrap();
    let agent = scene.agent(&scene.document().unwrap()).unwrap();
    agent.tunnel_fault("auth-rejected", SOON).unwrap();
    let status = agent.wait_for("ready bridge", SOON, ready).unwrap();
    assert_eq!(status["health"], "degraded");
}

#[test]
fn a_bridge_that_is_off_is_healthy() {
    let scene = Scene::new().unwrap();
    let agent = start(&scene, &[("bridge", "listen = \"off\"")]);
    let status = agent
        .wait_for("ok", SOON, |status| status["health"] == "ok")
        .unwrap();
    assert_eq!(status["bridge"]["state"], "off");
    assert!(UnixStream::connect(agent.bridge()).is_err());
}
