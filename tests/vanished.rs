//! The session of a user who vanished ends in the guest.

use std::time::Instant;

use harness::agent::Agent;
use harness::fault::Frozen;
use harness::limits::{PROGRAM, SOON};
use harness::process::Process;
use harness::scene::Scene;
use harness::wait;
use nix::unistd::Pid;

/// An ssh session over this way in that has begun.
fn session(scene: &Scene, way: &str) -> Process {
    let mut ssh = scene.ssh("ssh");
    ssh.args(["-tt", way, "--", "echo in; exec sleep 1000"]);
    let dir = scene.agent_dir();
    let user = scene.namespace.spawn(&dir, "user", &ssh).unwrap();
    wait::until("session", SOON, || user.log().contains("in").then_some(())).unwrap();
    user
}

/// Waits until sshd has no session.
fn ended(scene: &Scene, what: &str) {
    let start = Instant::now();
    wait::until(what, SOON, || {
        scene.sshd.sessions().unwrap().is_empty().then_some(())
    })
    .unwrap();
    println!("{what}: ended after {:?}", start.elapsed());
}

fn pids(process: &Process) -> Vec<Pid> {
    vec![Pid::from_raw(i32::try_from(process.id()).unwrap())]
}

/// Both ways in, with `lines` in the configuration of the guest's sshd.
fn scene(lines: &str) -> (Scene, Agent) {
    let mut scene = Scene::new().unwrap();
    let more = format!("UsePAM no\n{lines}");
    scene.sshd.configure("UsePAM no", &more).unwrap();
    scene.sshd.stop();
    scene.sshd.start().unwrap();
    let agent = scene.up().unwrap();
    scene.add_bridge(&agent).unwrap();
    (scene, agent)
}

#[test]
fn a_killed_client_takes_its_session_along() {
    let (scene, _agent) = scene("");
    for way in ["bridge", "tunnel"] {
        let mut user = session(&scene, way);
        user.kill();
        ended(&scene, way);
    }
}

#[test]
fn a_client_that_is_killed_in_a_transfer_takes_its_session_along() {
    let (scene, _agent) = scene("");
    for way in ["bridge", "tunnel"] {
        let mut ssh = scene.ssh("ssh");
        ssh.args([way, "--", "exec cat /dev/zero"]);
        let mut user = scene
            .namespace
            .spawn(&scene.agent_dir(), "user", &ssh)
            .unwrap();
        wait::until("session", PROGRAM, || {
            (!scene.sshd.sessions().unwrap().is_empty() && user.log().len() > 1 << 20).then_some(())
        })
        .unwrap();
        user.kill();
        ended(&scene, way);
    }
}

#[test]
fn a_proxy_that_dies_or_falls_silent_takes_the_sessions_of_its_users_along() {
    let (scene, agent) = scene("");
    let _user = session(&scene, "tunnel");
    scene.proxy.cut().unwrap();
    ended(&scene, "killed proxy");
    agent.tunnel("up", SOON).unwrap();
    let _user = session(&scene, "tunnel");
    let frozen = Frozen::new(&scene.proxy.sessions().unwrap()).unwrap();
    ended(&scene, "silent proxy");
    drop(frozen);
}

/// A stopped client, like one behind a dead link, closes nothing: its kernel, or the proxy's, still
/// has the connection. ClientAliveInterval's messages go through the relay.
#[test]
fn sshds_own_keepalive_ends_the_session_of_a_client_that_does_not_answer() {
    let (scene, agent) = scene("ClientAliveInterval 1\nClientAliveCountMax 2");
    for way in ["bridge", "tunnel"] {
        let user = session(&scene, way);
        let frozen = Frozen::new(&pids(&user)).unwrap();
        ended(&scene, way);
        assert!(scene.sshd.log().contains("Timeout, client not responding"));
        // The agent ends its relay as well.
        let part = if way == "bridge" { "bridge" } else { "tunnel" };
        let none = |status: &serde_json::Value| status[part]["open"] == 0;
        agent.wait_for("end of the relay", SOON, none).unwrap();
        drop(frozen);
    }
}
