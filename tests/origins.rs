//! Each origin reaches sshd from an address of its own, where the kernel has one; status says where
//! it has not.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;

use harness::agent::Agent;
use harness::limits::{PROGRAM, SOON};
use harness::openssh::Sshd;
use harness::scene::Scene;
use serde_json::Value;

fn ready(status: &Value) -> bool {
    status["sshd"]["state"] == "ready"
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
        let mut ip = Command::new("ip");
        ip.args(change.split(' '));
        scene.namespace.run(&ip, PROGRAM).unwrap();
    }
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    let status = agent.wait_for("sshd", SOON, ready).unwrap();
    assert_eq!(status["sshd"]["origins_apart"], false, "{status:#}");
    for way in ["tunnel", "bridge"] {
        assert_eq!(scene.login(way, "echo in").unwrap(), "in\n");
    }
    let status = agent.status().unwrap();
    assert_eq!(status["bridge"]["origins"][0]["seen_as"], "127.0.0.1");
    let lines = agent
        .log()
        .matches("origins share the guest's address")
        .count();
    assert_eq!(lines, 1, "{}", agent.log());
}

/// sshd on an address of this guest that is not loopback, and on IPv6.
#[test]
fn origins_are_apart_where_sshd_is_on_ipv4_and_status_says_where_they_are_not() {
    for (address, apart) in [("169.254.169.254:22", true), ("[::1]:22", false)] {
        let scene = Scene::new().unwrap();
        let dir = scene.agent_dir().join("sshd");
        fs::create_dir(&dir).unwrap();
        let server = Sshd::new(&scene.namespace, &dir, address.parse().unwrap(), "").unwrap();
        server
            .authorize("", &scene.person.public().unwrap())
            .unwrap();
        let line = format!("sshd = \"{address}\"");
        let config = [("bridge", line.as_str()), ("tunnel", "when = \"never\"")];
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
        scene.add_bridge(&agent).unwrap();
        let status = agent.wait_for("sshd", SOON, ready).unwrap();
        assert_eq!(status["sshd"]["origins_apart"], apart, "{status:#}");
        let seen = scene.login("bridge", "echo ${SSH_CONNECTION%% *}").unwrap();
        let expected = if apart { "127.1.0.3\n" } else { "::1\n" };
        assert_eq!(seen, expected);
    }
}

/// No port is left to an origin's own address: it shares the guest's, and gets in.
#[test]
fn an_origin_whose_ports_are_used_up_connects_without_its_address() {
    let scene = Scene::new().unwrap();
    let never = [("tunnel", "when = \"never\"")];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &never).unwrap();
    agent.wait_for("sshd", SOON, ready).unwrap();
    let mut sysctl = Command::new("sysctl");
    sysctl.args(["-w", "net.ipv4.ip_local_port_range=50000 50001"]);
    scene.namespace.run(&sysctl, PROGRAM).unwrap();
    let mut users = Vec::new();
    for own in ["127.1.0.3", "127.1.0.3", "127.0.0.1"] {
        let mut user = UnixStream::connect(agent.bridge()).unwrap();
        user.set_read_timeout(Some(SOON)).unwrap();
        let mut banner = [0; 4];
        user.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-");
        let status = agent.status().unwrap();
        let origins = status["bridge"]["origins"].as_array().unwrap();
        assert_eq!(origins.last().unwrap()["seen_as"], own, "{status:#}");
        users.push(user);
    }
    assert_eq!(agent.status().unwrap()["sshd"]["state"], "ready");
}
