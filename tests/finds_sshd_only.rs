//! The agent leads users to no program that only listens where sshd may be.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::process::Command;

use harness::arrivals::Arrivals;
use harness::limits::SOON;
use harness::process::Process;
use harness::scene::{OPTIONS, PORT, Scene};
use harness::wait;
use serde_json::Value;

use crate::finds_sshd::{USUAL, agent, agent_after, found, listening, on_unix_socket, scene};

/// A user who is not root listens on a port of 127.0.0.1, and poses as sshd.
fn poses_as_sshd(scene: &Scene, port: u16) -> Process {
    let mut other = Command::new("setpriv");
    other.args("--reuid=nobody --clear-groups socat".split(' '));
    other.arg(format!("TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"));
    other.arg("EXEC:echo SSH-2.0-other");
    listening(scene, &other, port)
}

/// Any user may listen on a port above 1023 while sshd is away.
#[test]
fn a_port_of_sshd_that_a_user_took_is_not_dialled() {
    let mut scene = scene("Port 2022\n");
    scene.sshd.stop();
    let other = poses_as_sshd(&scene, 2022);
    let arrivals = Arrivals::new(&scene.namespace, 2022).unwrap();
    let agent = agent(&scene);
    let _held = UnixStream::connect(agent.bridge()).unwrap();
    let missed = |status: &Value| status["sshd"]["fault"]["count"].as_u64() >= Some(3);
    let status = agent.wait_for("missing sshd", SOON, missed).unwrap();
    assert_eq!(status["sshd"]["state"], "waiting", "{status:#}");
    assert_eq!(arrivals.times().unwrap().len(), 0);
    drop(other);
    scene.sshd.start().unwrap();
    found(&agent, "127.0.0.1:2022", "sshd_config");
}

/// A user's connection waits for sshd, and does not reach the program of another user.
#[test]
fn users_are_not_led_to_a_user_who_took_the_port_of_a_ready_sshd() {
    let mut scene = scene("Port 2022\n");
    let agent = agent(&scene);
    found(&agent, "127.0.0.1:2022", "sshd_config");
    scene.sshd.stop();
    let other = poses_as_sshd(&scene, 2022);
    let arrivals = Arrivals::new(&scene.namespace, 2022).unwrap();
    let mut held = UnixStream::connect(agent.bridge()).unwrap();
    held.set_read_timeout(Some(SOON)).unwrap();
    let taken = |status: &Value| {
        let message = status["sshd"]["fault"]["message"].as_str();
        message.is_some_and(|said| said.contains("and not root, listens on 127.0.0.1:2022"))
    };
    let status = agent.wait_for("the other user", SOON, taken).unwrap();
    assert_eq!(status["sshd"]["state"], "waiting", "{status:#}");
    assert_eq!(arrivals.times().unwrap().len(), 0);
    drop(other);
    scene.sshd.start().unwrap();
    let mut banner = [0; 15];
    held.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-OpenSSH");
}

/// The search prefers another address than that of the ready sshd, and nothing answers there.
#[test]
fn a_ready_sshd_is_not_left_for_a_silent_socket() {
    let scene = scene("ListenAddress 127.0.0.1:2022\n");
    let agent = agent(&scene);
    found(&agent, "127.0.0.1:2022", "sshd_config");
    let both = "ListenAddress 127.0.0.1:22\nListenAddress 127.0.0.1:2022\n";
    let one = "ListenAddress 127.0.0.1:2022\n";
    scene.sshd.configure(one, both).unwrap();
    let arrivals = Arrivals::new(&scene.namespace, 22).unwrap();
    let mut silent = Command::new("socat");
    silent.args([
        "TCP4-LISTEN:22,bind=127.0.0.1,fork,reuseaddr",
        "EXEC:sleep 1000",
    ]);
    let _silent = listening(&scene, &silent, 22);
    let checked = || arrivals.times().unwrap().len();
    wait::until("its check", SOON, || (checked() == 1).then_some(())).unwrap();
    // The agent gives the silent socket up, and checks the ready sshd again.
    let checks = || scene.sshd.log().matches("closed by 127.1.0.1").count();
    let before = checks();
    wait::until("the next check", SOON, || {
        let status = agent.status().unwrap();
        let sshd = &status["sshd"];
        assert_eq!(sshd["state"], "ready", "{status:#}");
        assert_eq!(sshd["address"], "127.0.0.1:2022", "{status:#}");
        (checks() > before).then_some(())
    })
    .unwrap();
    assert_eq!(checked(), 1);
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
}

/// The administrator has disabled sshd. systemd's socket for local logins serves the bridge, since
/// systemd itself offers it to the host, and not the public port.
#[test]
fn the_tunnel_does_not_lead_to_the_socket_of_local_logins() {
    let mut scene = scene(USUAL);
    scene.sshd.stop();
    let dir = scene.sshd.dir().to_owned();
    let units = dir.join("units");
    fs::create_dir(&units).unwrap();
    let path = dir.join("local.sock");
    let unit = format!("[Socket]\nListenStream={}\nAccept=yes\n", path.display());
    fs::write(units.join("sshd-unix-local.socket"), unit).unwrap();
    let _server = on_unix_socket(&scene, &path);
    let public = scene.key.public().unwrap();
    scene.proxy.authorize(OPTIONS, &public).unwrap();
    harness::agent::write_document(&scene.agent_dir(), &scene.document().unwrap()).unwrap();
    let units = format!("mount --bind {} /etc/systemd/system", units.display());
    let agent = agent_after(&scene, &units, &[("bridge", "sshd = \"auto\"")]);
    found(&agent, &format!("unix:{}", path.display()), "ssh.socket");
    assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
    let closed = |status: &Value| {
        let fault = &status["tunnel"]["fault"];
        let message = fault["message"].as_str().unwrap_or_default();
        fault["code"] == "sshd-down" && message.contains("the tunnel does not lead there")
    };
    agent.wait_for("sshd down", SOON, closed).unwrap();
    let mut user = scene.namespace.connect(([127, 0, 0, 1], PORT).into());
    let mut heard = Vec::new();
    let user = user.as_mut().unwrap();
    user.set_read_timeout(Some(SOON)).unwrap();
    match user.read_to_end(&mut heard) {
        Ok(_) => assert!(heard.is_empty(), "{:?}", String::from_utf8_lossy(&heard)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
