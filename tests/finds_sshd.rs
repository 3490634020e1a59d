//! The agent finds sshd where its configuration puts it, and follows it; `[bridge] sshd` fixes it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use harness::agent::Agent;
use harness::arrivals::Arrivals;
use harness::limits::{PROGRAM, SOON};
use harness::openssh::Sshd;
use harness::process::Process;
use harness::scene::{OPTIONS, Scene};
use harness::wait;
use serde_json::Value;

/// The lines on addresses and ports in the configuration of a scene's sshd.
pub(crate) const USUAL: &str = "ListenAddress 127.0.0.1 \nPort 22\n";

/// A scene whose sshd listens as these lines say, also on an address that is not loopback.
pub(crate) fn scene(lines: &str) -> Scene {
    let mut scene = Scene::with_addresses(&["10.0.2.15/24"], &Sshd::proxy_config()).unwrap();
    move_to(&mut scene, USUAL, lines);
    scene
}

/// Starts the scene's sshd again with other lines.
fn move_to(scene: &mut Scene, before: &str, lines: &str) {
    scene.sshd.stop();
    scene.sshd.configure(before, lines).unwrap();
    scene.sshd.start().unwrap();
}

/// An agent that searches for sshd, with the configuration of the scene's sshd in its /etc/ssh.
pub(crate) fn agent(scene: &Scene) -> Agent {
    let config = [
        ("bridge", "sshd = \"auto\""),
        ("tunnel", "when = \"never\""),
    ];
    agent_after(scene, "true", &config)
}

/// The same with this configuration, after a command in its mount namespace.
pub(crate) fn agent_after(scene: &Scene, command: &str, config: &[(&str, &str)]) -> Agent {
    let path = scene.sshd.dir().join("sshd_config");
    let script = format!(
        "mount --bind {} /etc/ssh/sshd_config && {command} && exec \"$0\" \"$@\"",
        path.display()
    );
    let agent = Agent::start_by(&scene.namespace, &scene.agent_dir(), config, |agent| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        command.arg(agent.get_program()).args(agent.get_args());
        command
    });
    let agent = agent.unwrap();
    scene.add_bridge(&agent).unwrap();
    agent
}

/// Waits until sshd is ready at an address, and returns the status.
pub(crate) fn found(agent: &Agent, address: &str, by: &str) -> Value {
    let status = agent.wait_for(&format!("sshd on {address}"), SOON, |status| {
        let sshd = &status["sshd"];
        sshd["state"] == "ready" && sshd["address"] == address
    });
    let status = status.unwrap();
    assert_eq!(status["sshd"]["found_by"], by, "{status:#}");
    status
}

#[test]
fn sshd_is_found_by_its_configuration() {
    for (lines, address, by, apart) in [
        (USUAL, "127.0.0.1:22", "port 22", true),
        ("Port 2022\n", "127.0.0.1:2022", "sshd_config", true),
        (
            "ListenAddress 10.0.2.15\n",
            "10.0.2.15:22",
            "sshd_config",
            true,
        ),
        ("ListenAddress ::1\n", "[::1]:22", "port 22", false),
        (
            "ListenAddress [::]:2022\n",
            "[::1]:2022",
            "sshd_config",
            false,
        ),
    ] {
        let scene = scene(lines);
        let agent = agent(&scene);
        let status = found(&agent, address, by);
        assert_eq!(status["sshd"]["origins_apart"], apart, "{status:#}");
        // The keys of this sshd, which differ from those in /etc/ssh.
        let key = scene.sshd.host_key("ed25519").unwrap();
        let keys = status["host_keys"].as_array().unwrap();
        assert!(
            keys.iter()
                .any(|known| key.contains(known.as_str().unwrap())),
            "{keys:?}"
        );
        assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
    }
}

#[test]
fn it_is_followed_when_it_moves() {
    let mut scene = scene("Port 2022\n");
    let agent = agent(&scene);
    found(&agent, "127.0.0.1:2022", "sshd_config");
    scene.sshd.stop();
    // A user connects meanwhile, and waits until sshd listens on its new address.
    let held = UnixStream::connect(agent.bridge()).unwrap();
    let down = |status: &Value| status["sshd"]["fault"]["code"] == "sshd-down";
    let status = agent.wait_for("lost sshd", SOON, down).unwrap();
    let message = status["sshd"]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("[::1]:2022 (sshd_config)"), "{message}");
    move_to(&mut scene, "Port 2022\n", "ListenAddress 10.0.2.15:2023\n");
    let moved = agent.stopwatch();
    found(&agent, "10.0.2.15:2023", "sshd_config");
    println!("sshd has moved | found after {:.2?}", moved.elapsed());
    assert!(moved.elapsed() < SOON);
    drop(held);
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
}

/// A server of another kind listens on the first address.
#[test]
fn a_place_that_another_server_has_is_passed_over_and_dialled_once() {
    let mut scene = scene(USUAL);
    scene.sshd.stop();
    let mut mail = Command::new("socat");
    mail.args([
        "TCP4-LISTEN:22,bind=127.0.0.1,fork,reuseaddr",
        "EXEC:echo 220 mail",
    ]);
    let _mail = listening(&scene, &mail, 22);
    let both = "ListenAddress 127.0.0.1:22\nListenAddress 127.0.0.1:2022\n";
    scene.sshd.configure(USUAL, both).unwrap();
    scene.sshd.start().unwrap();
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let agent = agent(&scene);
    found(&agent, "127.0.0.1:2022", "sshd_config");
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
    assert_eq!(arrivals.times().unwrap().len(), 1);
}

/// Serves each connection to this Unix socket by an `sshd -i` with the configuration of the scene.
pub(crate) fn on_unix_socket(scene: &Scene, path: &Path) -> Process {
    let dir = scene.sshd.dir();
    let mut socat = Command::new("socat");
    socat
        .arg(format!("UNIX-LISTEN:{},fork", path.display()))
        .arg(format!(
            "EXEC:/usr/sbin/sshd -i -f {}/sshd_config",
            dir.display()
        ));
    let server = scene.namespace.spawn(dir, "socat", &socat).unwrap();
    wait::until("the socket", PROGRAM, || path.exists().then_some(())).unwrap();
    server
}

/// A service of the scene's own that listens on a port of 127.0.0.1.
pub(crate) fn listening(scene: &Scene, command: &Command, port: u16) -> Process {
    let process = scene
        .namespace
        .spawn(scene.sshd.dir(), "service", command)
        .unwrap();
    wait::until("the service", PROGRAM, || {
        let mut ss = Command::new("ss");
        ss.args(["-Hltn", &format!("sport = {port}")]);
        let listens = scene.namespace.run(&ss, PROGRAM).unwrap();
        (!listens.is_empty()).then_some(())
    })
    .unwrap();
    process
}

#[test]
fn both_ways_lead_to_a_configured_unix_socket() {
    let mut scene = scene(USUAL);
    scene.sshd.stop();
    let dir = scene.sshd.dir().to_owned();
    let path = dir.join("sshd.sock");
    let _server = on_unix_socket(&scene, &path);
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    let line = format!("sshd = \"unix:{}\"", path.display());
    harness::agent::write_document(&scene.agent_dir(), &scene.document().unwrap()).unwrap();
    let config = [("bridge", line.as_str())];
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &config).unwrap();
    scene.add_bridge(&agent).unwrap();
    let address = format!("unix:{}", path.display());
    let status = found(&agent, &address, "configuration");
    assert_eq!(status["sshd"]["origins_apart"], false, "{status:#}");
    let status = agent.tunnel("up", SOON).unwrap();
    assert_eq!(status["tunnel"]["proven"], true, "{status:#}");
    let text = "x".repeat(100_000);
    fs::write(dir.join("text"), &text).unwrap();
    for way in ["bridge", "tunnel"] {
        let read = scene.login(way, &format!("cat {}/text", dir.display()));
        assert!(read.unwrap() == text, "{way}");
    }
    let status = agent.status().unwrap();
    assert_eq!(status["bridge"]["origins"][0]["seen_as"], "UNKNOWN");
}
