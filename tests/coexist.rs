//! The bridge beside others that serve its port, or where there is no vsock at all.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::limits::SOON;
use harness::netns::Namespace;
use harness::pid1::without_vsock;
use harness::process::Process;
use harness::scene::Scene;
use harness::wait;
use serde_json::Value;

/// How soon vmagent has the port once another has left it.
const TAKEN_OVER: Duration = Duration::from_secs(5);

fn bridge_is(state: &str) -> impl Fn(&Value) -> bool {
    move |status| status["bridge"]["state"] == state
}

/// socat, as people use it, in the bridge's place.
fn socat(scene: &Scene) -> Process {
    let path = scene.agent_dir().join("bridge.sock");
    let _ = std::fs::remove_file(&path);
    let mut socat = Command::new("socat");
    socat
        .arg(format!("UNIX-LISTEN:{},fork", path.display()))
        .arg("TCP:127.0.0.1:22");
    let socat = scene.namespace.spawn(&scene.agent_dir(), "socat", &socat);
    wait::until("socat's socket", SOON, || path.exists().then_some(())).unwrap();
    socat.unwrap()
}

#[test]
fn another_is_left_alone_and_its_port_is_taken_within_five_seconds_of_its_end() {
    let scene = Scene::new().unwrap();
    let mut worst = Duration::ZERO;
    for _ in 0..3 {
        let mut other = socat(&scene);
        let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
        scene.add_bridge(&agent).unwrap();
        let status = agent.wait_for("foreign", SOON, bridge_is("foreign"));
        let status = status.unwrap();
        assert_eq!(status["health"], "ok");
        let fault = &status["bridge"]["fault"];
        assert_eq!(fault["code"], "port-served");
        let advice = fault["advice"].as_str().unwrap();
        assert!(advice.contains("To switch to vmagent"), "{advice}");
        let said = String::from_utf8(agent.ask(&[]).unwrap().stdout).unwrap();
        assert!(said.contains("To switch to vmagent"), "{said}");
        assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
        other.kill();
        let start = agent.stopwatch();
        let status = agent.wait_for("ready", SOON, bridge_is("ready"));
        let took = start.elapsed();
        println!("taken over after {took:?}");
        worst = worst.max(took);
        assert_eq!(status.unwrap()["bridge"]["fault"], Value::Null);
        assert_eq!(scene.login("bridge", "echo in").unwrap(), "in\n");
    }
    assert!(worst <= TAKEN_OVER, "{worst:?}");
}

/// It is looked at every two seconds: were each look a call, each could cost an `sshd -i`.
#[test]
fn another_is_called_once_and_not_at_each_look() {
    let scene = Scene::new().unwrap();
    let listener = UnixListener::bind(scene.agent_dir().join("bridge.sock")).unwrap();
    let (called, calls) = channel();
    // Ends with the test's process at the latest.
    thread::spawn(move || {
        while let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.write_all(b"SSH-2.0-other\r\n");
            if called.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    let agent = Agent::start(&scene.namespace, &scene.agent_dir(), &[]).unwrap();
    agent
        .wait_for("foreign", SOON, bridge_is("foreign"))
        .unwrap();
    let first = calls.recv_timeout(SOON).unwrap();
    // Long enough for two looks, and time is what this is about. The next call is due after 10 s
    // (bridge/pace.rs, PROVE).
    let over = first + Duration::from_secs(6);
    let left = over.saturating_duration_since(Instant::now());
    match calls.recv_timeout(left) {
        Err(RecvTimeoutError::Timeout) => {}
        Ok(again) => assert!(again > over, "called again after {:?}", again - first),
        Err(RecvTimeoutError::Disconnected) => panic!("nobody listens"),
    }
    assert!(bridge_is("foreign")(&agent.status().unwrap()));
}

#[test]
fn without_vsock_it_says_so_once_and_goes_on_asking() {
    // What is started in there has no AF_VSOCK, and neither has what that starts.
    without_vsock(|| {
        let namespace = Namespace::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = [("bridge", "listen = \"vsock:22\"")];
        let agent = Agent::start(&namespace, dir.path(), &config).unwrap();
        let asked = |status: &Value| {
            let fault = &status["bridge"]["fault"];
            fault["code"] == "vsock-unavailable" && fault["count"].as_u64() >= Some(4)
        };
        let status = agent.wait_for("four attempts", SOON, asked).unwrap();
        assert_eq!(status["bridge"]["state"], "waiting");
        let log = agent.log();
        let lines = log.lines().filter(|line| line.contains("vsock"));
        assert_eq!(lines.count(), 1, "{log}");
    })
    .join()
    .unwrap();
}
